package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"
)

func newKeyring(keys [][]byte) (*memberlist.Keyring, error) {
	if err := checkKeys(keys); err != nil {
		return nil, err
	}
	keys = copyKeys(keys)
	return memberlist.NewKeyring(keys, keys[0])
}

func checkKeys(keys [][]byte) error {
	if len(keys) == 0 {
		return errors.New("gossip: no key: hosts without one do not gossip")
	}
	for i, k := range keys {
		if err := memberlist.ValidateKey(k); err != nil {
			return fmt.Errorf("gossip: key %d of %d has %d bytes: want 16, 24 or 32", i+1, len(keys), len(k))
		}
	}
	return nil
}

func copyKeys(keys [][]byte) [][]byte {
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i] = bytes.Clone(k)
	}
	return out
}

// Use makes these the keys from now on: the first encrypts, all of them open.
// It concerns this host alone. A rotation is three rounds of it over all hosts:
// append the new key, move it to the front, drop the old one. Keys that are not
// valid change nothing.
func (g *Gossip) Use(keys [][]byte) error {
	if err := checkKeys(keys); err != nil {
		return err
	}
	keys = copyKeys(keys)
	g.keyTurn.Lock()
	defer g.keyTurn.Unlock()
	for _, k := range keys {
		if err := g.keys.AddKey(k); err != nil {
			return fmt.Errorf("gossip: install a key: %w", err)
		}
	}
	for _, old := range g.keys.GetKeys() {
		if slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, old) }) {
			continue
		}
		// RemoveKey moves keys within the slice that packets are just opened with;
		// UseKey makes a new slice first, so that they keep the old one.
		if err := g.keys.UseKey(keys[0]); err != nil {
			return fmt.Errorf("gossip: use a key: %w", err)
		}
		if err := g.keys.RemoveKey(old); err != nil {
			return fmt.Errorf("gossip: drop a key: %w", err)
		}
	}
	if err := g.keys.UseKey(keys[0]); err != nil {
		return fmt.Errorf("gossip: use a key: %w", err)
	}
	return nil
}
