package cluster

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync"
)

// Pins are the nodes' keys: a name belongs to the key that it was first seen
// with, until somebody forgets the node. Safe for concurrent use.
type Pins struct {
	mu   sync.Mutex
	keys map[string]ed25519.PublicKey
	save func(text string)
}

// PinError says that a name is taken.
type PinError struct {
	Node       string
	Known, Now ed25519.PublicKey
}

func (e *PinError) Error() string {
	return fmt.Sprintf("a host calls itself node %s, but is not the one that is known by this name (its key is %s, known is %s): "+
		"give it another name in shoal.toml, or, if it was set up anew, run `shoal node forget %s`",
		e.Node, fingerprint(e.Now), fingerprint(e.Known), e.Node)
}

// OpenPins reads what save was last given; "" is none. Save is called with each
// change, under a lock.
func OpenPins(text string, save func(text string)) (*Pins, error) {
	p := &Pins{keys: make(map[string]ed25519.PublicKey), save: save}
	if text == "" {
		return p, nil
	}
	if err := json.Unmarshal([]byte(text), &p.keys); err != nil {
		return nil, fmt.Errorf("the known nodes' keys: %w", err)
	}
	return p, nil
}

// Admit is nil for a node that is known by this key, or was not known: it is
// from now on. Else it is a *PinError.
func (p *Pins) Admit(who Identity) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, is := p.keys[who.Node]
	switch {
	case !is:
		p.keys[who.Node] = bytes.Clone(who.Key)
		p.changed()
		return nil
	case !known.Equal(who.Key):
		return &PinError{who.Node, known, who.Key}
	}
	return nil
}

// Key is the key that a node is known by, nil for a stranger.
func (p *Pins) Key(node string) ed25519.PublicKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[node]
}

// Len is how many nodes are known.
func (p *Pins) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.keys)
}

// Forget makes a node unknown.
func (p *Pins) Forget(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, is := p.keys[node]; is {
		delete(p.keys, node)
		p.changed()
	}
}

func (p *Pins) changed() {
	text, err := json.Marshal(p.keys)
	if err != nil {
		panic(err) // of strings and bytes
	}
	p.save(string(text))
}

// fingerprint is enough of a key for people to compare.
func fingerprint(key ed25519.PublicKey) string {
	return base64.RawStdEncoding.EncodeToString(key)[:8]
}
