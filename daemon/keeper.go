package daemon

import (
	"maps"
	"sync"

	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/daemon/record"
)

// keeper keeps records and small values for the next start: a record.Store.
type keeper interface {
	peer.Store
	Load() (map[string]*record.Record, error)
	Meta(name string) string
	SetMeta(name, value string) error
	SaveMeta(name, value string)
	Flush() error
	Close() error
}

// Memory is a disk of a Hostless. Its zero value is a new one. A daemon that ends
// leaves on it what it knew: nothing is lost of what a real one would not have
// written yet.
type Memory struct {
	mu      sync.Mutex
	meta    map[string]string
	records map[string]*record.Record
}

// Load is a copy of what the last daemon left.
func (m *Memory) Load() (map[string]*record.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	records := make(map[string]*record.Record, len(m.records))
	for node, r := range m.records {
		records[node] = r.Clone()
	}
	return records, nil
}

// leave takes over what a daemon knew that has ended.
func (m *Memory) leave(s *peer.Set) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Read(func(all map[string]*record.Record) { m.records = maps.Clone(all) })
}

// Meta is a small value, "" when there is none.
func (m *Memory) Meta(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.meta[name]
}

// SetMeta keeps a small value.
func (m *Memory) SetMeta(name, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.meta == nil {
		m.meta = make(map[string]string)
	}
	m.meta[name] = value
	return nil
}

// SaveMeta is SetMeta.
func (m *Memory) SaveMeta(name, value string) { _ = m.SetMeta(name, value) }

// Save and Forget do nothing: what counts is what the daemon knew at its end.
func (m *Memory) Save(record.Delta) {}
func (m *Memory) Forget(string)     {}

// Flush and Close have nothing to write.
func (m *Memory) Flush() error { return nil }
func (m *Memory) Close() error { return nil }

var (
	_ keeper = (*record.Store)(nil)
	_ keeper = (*Memory)(nil)
)
