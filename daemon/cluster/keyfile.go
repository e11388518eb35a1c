package cluster

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// mark is what a rotation notes of a key, in a comment above it.
type mark struct {
	made time.Time // when the key was made
	used time.Time // since when this host uses it; zero: it only trusts it
}

const (
	markMade = "# made "
	markUsed = ", in use since "
)

func (m mark) String() string {
	text := markMade + m.made.UTC().Format(time.RFC3339)
	if !m.used.IsZero() {
		text += markUsed + m.used.UTC().Format(time.RFC3339)
	}
	return text
}

// parseMark reads a comment that a rotation wrote; others are people's.
func parseMark(line string) (m mark, is bool) {
	text, is := strings.CutPrefix(line, markMade)
	if !is {
		return m, false
	}
	made, used, hasUsed := strings.Cut(text, markUsed)
	var err error
	if m.made, err = time.Parse(time.RFC3339, made); err != nil {
		return mark{}, false
	}
	if hasUsed {
		if m.used, err = time.Parse(time.RFC3339, used); err != nil {
			return mark{}, false
		}
	}
	return m, true
}

// ID names a key without telling it: 64 bits that follow from it.
func (k Key) ID() string { return hex.EncodeToString(k.derive("key id")[:8]) }

// ParseKey reads a key's Text.
func ParseKey(text string) (Key, error) {
	ring, err := ParseKeyring([]byte(text))
	if err != nil || len(ring.keys) != 1 {
		return Key{}, errors.New("it is not one key")
	}
	return ring.keys[0], nil
}

// Held is a key that a host has, by name.
type Held struct {
	ID   string    `json:"id"`
	Made time.Time `json:"made,omitzero"` // by a rotation; zero: by a person
	Used time.Time `json:"used,omitzero"` // since when the host uses it, where a rotation began that
}

// before says whether a rotation made a key before another one.
func (h Held) before(other Held) bool {
	return h.Made.Before(other.Made) || h.Made.Equal(other.Made) && !h.Made.IsZero() && h.ID < other.ID
}

// Held are the keys by name, the one in use first.
func (r Keyring) Held() []Held {
	var list []Held
	for _, k := range r.keys {
		list = append(list, Held{k.ID(), r.marks[k].made, r.marks[k].used})
	}
	return list
}

// Key is the key of that name.
func (r Keyring) Key(id string) (Key, bool) {
	i := slices.IndexFunc(r.keys, func(k Key) bool { return k.ID() == id })
	if i < 0 {
		return Key{}, false
	}
	return r.keys[i], true
}

// Sole is the ring of one key of this one.
func (r Keyring) Sole(id string) (Keyring, bool) {
	k, is := r.Key(id)
	return NewKeyring(k), is
}

func (r Keyring) copied() Keyring {
	next := Keyring{slices.Clone(r.keys), make(map[Key]mark)}
	for k, m := range r.marks {
		next.marks[k] = m
	}
	return next
}

// Trusting is the ring with one more key, which a rotation made then. The key in
// use stays. One that is there already changes nothing.
func (r Keyring) Trusting(k Key, made time.Time) (Keyring, error) {
	if slices.Contains(r.keys, k) {
		return r, nil
	}
	if len(r.keys) == mostKeys {
		return r, fmt.Errorf("there are %d keys already, and no room for one more: take out those that no host uses", mostKeys)
	}
	next := r.copied()
	next.keys = append(next.keys, k)
	next.marks[k] = mark{made: made.UTC().Truncate(time.Second)}
	return next, nil
}

// Using is the ring with the key of that name in use, since then. It never goes
// back to an older key: a rotation that another one overtook may ask for it late.
func (r Keyring) Using(id string, since time.Time) (Keyring, error) {
	k, is := r.Key(id)
	held := r.Held()
	switch {
	case !is:
		return r, fmt.Errorf("there is no key %s", id)
	case r.keys[0] == k:
		return r, nil
	case held[slices.Index(r.keys, k)].before(held[0]):
		return r, fmt.Errorf("key %s is older than the one in use", id)
	}
	next := r.copied()
	next.keys = append([]Key{k}, slices.DeleteFunc(next.keys, func(other Key) bool { return other == k })...)
	m := next.marks[k]
	m.used = since.UTC().Truncate(time.Second)
	if m.made.IsZero() {
		m.made = m.used
	}
	next.marks[k] = m
	return next, nil
}

// Without is the ring without the keys of these names. The one in use can't go.
func (r Keyring) Without(ids []string) (Keyring, error) {
	next := r.copied()
	for _, id := range ids {
		k, is := r.Key(id)
		if is && k == r.keys[0] {
			return r, fmt.Errorf("key %s is in use", id)
		}
		next.keys = slices.DeleteFunc(next.keys, func(other Key) bool { return is && other == k })
		delete(next.marks, k)
	}
	return next, nil
}

// text is the key file.
func (r Keyring) text() string {
	var b strings.Builder
	for _, k := range r.keys {
		if m, is := r.marks[k]; is {
			fmt.Fprintln(&b, m)
		}
		fmt.Fprintln(&b, k.Text())
	}
	return b.String()
}

// Write replaces the key file, whole or not at all, with one of mode 0600. People's
// comments at its head stay. A link is followed.
func (r Keyring) Write(path string) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("the cluster's key: %w", err)
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the cluster's key: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".cluster.key-*") // mode 0600
	if err != nil {
		return fmt.Errorf("the cluster's key: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(head(string(old)) + r.text())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("the cluster's key: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("the cluster's key: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("the cluster's key: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// head are the comments that people put before the first key.
func head(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		if _, is := parseMark(trimmed); is || trimmed != "" && trimmed[0] != '#' {
			break
		}
		b.WriteString(line)
	}
	return b.String()
}
