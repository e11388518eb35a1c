package cluster

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
)

// ErrSealed says that no key of the ring opens something.
var ErrSealed = errors.New("it is sealed with a cluster key that this host does not have")

// Seal encrypts what only those who hold the cluster's key may read, with the
// key in use: AES-256-GCM, bound to a name. The nonce is taken from name and
// content (as in SIV modes), so that the same content of one name is sealed alike
// each time: whoever has no key learns that, and the length.
func (r Keyring) Seal(name string, plain []byte) []byte {
	aead := r.keys[0].secrets()
	mac := hmac.New(sha256.New, r.keys[0].derive("secrets nonce"))
	mac.Write([]byte(name))
	mac.Write([]byte{0})
	mac.Write(plain)
	nonce := mac.Sum(nil)[:aead.NonceSize()]
	return aead.Seal(nonce, nonce, plain, []byte(name))
}

// Open is the inverse of Seal, with any key of the ring.
func (r Keyring) Open(name string, sealed []byte) ([]byte, error) {
	for _, k := range r.keys {
		aead := k.secrets()
		if len(sealed) < aead.NonceSize() {
			break
		}
		plain, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], []byte(name))
		if err == nil {
			return plain, nil
		}
	}
	return nil, ErrSealed
}

// IsZero says whether there is no key in it.
func (r Keyring) IsZero() bool { return len(r.keys) == 0 }

func (k Key) secrets() cipher.AEAD {
	block, err := aes.NewCipher(k.derive("secrets"))
	if err != nil {
		panic(err) // of a key's size
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}
