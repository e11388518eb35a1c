// Package cluster keeps what makes hosts one cluster: the key that all of them
// share, what follows from it, and who a peer is.
//
// Whoever holds the key is root of the cluster: it may join as any node whose
// name is not taken, and read what the nodes tell each other. The key lies in a
// file of mode 0600 that people spread (Ansible); nothing here sends it.
package cluster

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// KeyFile is where the cluster's keys lie.
const KeyFile = "/etc/shoal/cluster.key"

// KeySize is the length of a key in bytes.
const KeySize = 32

// mostKeys are what a key file may hold: the one in use and those of rotations
// that are not finished.
const mostKeys = 8

// Key is one of the cluster's keys.
type Key [KeySize]byte

// NewKey makes a key.
func NewKey() Key {
	var k Key
	rand.Read(k[:]) // never fails (crypto/rand)
	return k
}

// Text is a key as it stands in the key file: base64 (RFC 4648).
func (k Key) Text() string { return base64.StdEncoding.EncodeToString(k[:]) }

// String keeps keys out of logs.
func (k Key) String() string { return "(a cluster key)" }

// GoString keeps keys out of logs.
func (k Key) GoString() string { return k.String() }

// derive is a key for one purpose (RFC 5869); nobody gets from it to another's.
func (k Key) derive(purpose string) []byte {
	b, err := hkdf.Key(sha256.New, k[:], nil, "shoal "+purpose+" 1", KeySize)
	if err != nil {
		panic(err) // a length that SHA-256 can't give
	}
	return b
}

// Keyring is the keys of a cluster: the first is in use, the others are trusted
// as well, while a rotation is under way. It is never empty.
type Keyring struct {
	keys  []Key
	marks map[Key]mark // of those that a rotation made
}

// NewKeyring is the ring of these keys, the one in use first.
func NewKeyring(use Key, others ...Key) Keyring { return Keyring{keys: append([]Key{use}, others...)} }

// ErrNoKey says that there is no key file: the host is a cluster of its own.
var ErrNoKey = errors.New("no cluster key")

// ReadKeyring reads the key file. A file that others than its owner may read is
// refused: who can read it is root of the cluster.
func ReadKeyring(path string) (Keyring, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Keyring{}, fmt.Errorf("%s: %w (make one with `shoal keygen --out %s`, the same file on every host, mode 0600)", path, ErrNoKey, path)
	}
	if err != nil {
		return Keyring{}, fmt.Errorf("the cluster's key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Keyring{}, fmt.Errorf("the cluster's key: %s is no regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return Keyring{}, fmt.Errorf("the cluster's key: %s has mode %#o, so others than its owner may use it: chmod 0600 %s, and if others had it, rotate the key", path, mode, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Keyring{}, fmt.Errorf("the cluster's key: %w", err)
	}
	ring, err := ParseKeyring(data)
	if err != nil {
		return Keyring{}, fmt.Errorf("the cluster's key: %s:%w", path, err)
	}
	return ring, nil
}

// ParseKeyring reads the text of a key file: a key a line, empty lines and those
// that begin with # aside. An error begins with the line's number, and does not
// quote it.
func ParseKeyring(data []byte) (Keyring, error) {
	ring := Keyring{marks: make(map[Key]mark)}
	var next mark // of the key that comes
	for i, line := range bytes.Split(data, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			if m, is := parseMark(string(line)); is {
				next = m
			}
			continue
		}
		b, err := base64.StdEncoding.DecodeString(string(line))
		if err != nil || len(b) != KeySize {
			return Keyring{}, fmt.Errorf("%d: want a key of %d bytes in base64, as `shoal keygen` prints it", i+1, KeySize)
		}
		switch key := Key(b); {
		case slices.Contains(ring.keys, key):
			return Keyring{}, fmt.Errorf("%d: this key is there twice", i+1)
		case len(ring.keys) == mostKeys:
			return Keyring{}, fmt.Errorf("%d: more than %d keys", i+1, mostKeys)
		default:
			ring.keys = append(ring.keys, key)
			if !next.made.IsZero() {
				ring.marks[key] = next
			}
			next = mark{}
		}
	}
	if len(ring.keys) == 0 {
		return Keyring{}, errors.New("1: there is no key in it: put in what `shoal keygen` prints")
	}
	return ring, nil
}

// Gossip is the keys for Serf (AES-256), the one in use first.
func (r Keyring) Gossip() [][]byte {
	keys := make([][]byte, len(r.keys))
	for i, k := range r.keys {
		keys[i] = k.derive("gossip")
	}
	return keys
}

// Equal says whether both hold the same keys in the same order.
func (r Keyring) Equal(other Keyring) bool { return slices.Equal(r.keys, other.keys) }
