// Package identity keeps the node's own key: an ed25519 pair that is made at
// the first start and never changes. With it the node signs what only it may
// say, the tokens of its pods among that.
package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	keyFile = "node.key"
	pemType = "PRIVATE KEY" // PKCS #8 (RFC 5208), as openssl genpkey -algorithm ed25519 writes
)

// Open reads the key from dir, or makes one there if there is none. Only root
// may read it. A file that is no such key is an error and stays as it is: a new
// key would make strangers of the node and of every token it signed.
func Open(dir string) (ed25519.PrivateKey, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the node's key: %w", err)
	}
	path := filepath.Join(dir, keyFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return generate(path)
	}
	if err != nil {
		return nil, fmt.Errorf("the node's key: %w", err)
	}
	key, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("the node's key: %s: %w (bring the file back from a backup; if there is none, remove it and restart "+
			"shoald: tokens that pods hold are then no good until they are renewed)", path, err)
	}
	return key, nil
}

func parse(data []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemType {
		return nil, errors.New("not a PEM block of type " + pemType)
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := any.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T, want ed25519", any)
	}
	return key, nil
}

// generate makes the key durable before it is used: what it signs must stay
// good after a power cut.
func generate(path string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the node's key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make the node's key: %w", err)
	}
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the node's key: %w", err)
	}
	err = pem.Encode(f, &pem.Block{Type: pemType, Bytes: der})
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, fmt.Errorf("make the node's key: %w", errors.Join(err, os.Remove(f.Name())))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("make the node's key: %w", err)
	}
	return key, errors.Join(dir.Sync(), dir.Close())
}
