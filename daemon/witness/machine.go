package witness

import (
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/shoal-project/shoal/daemon/lease"
)

// maxState bounds what a snapshot may be that another witness sends.
const maxState = 256 << 20

// machine is raft's FSM: it applies what is in the log to a lease.State.
type machine struct {
	mu     sync.Mutex
	state  *lease.State
	since  since
	broken error // an entry could not be read: this witness may not go on
	halt   func(error)
}

// Apply is raft's: it answers a lease.Outcome or an error.
func (m *machine) Apply(log *raft.Log) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	c, err := lease.UnmarshalCommand(log.Data)
	if err != nil {
		m.broken = fmt.Errorf("entry %d: %w", log.Index, err)
		m.halt(m.broken)
		return m.broken
	}
	before := m.state.Count
	out := m.state.Apply(log.Term, c)
	m.since.note(m.state, before, log.AppendedAt)
	return out
}

// with calls do with the state, which it must not keep.
func (m *machine) with(do func(*lease.State)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	do(m.state)
}

// Snapshot is raft's.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return nil, m.broken
	}
	data, err := m.since.marshal(m.state)
	return snapshot(data), err
}

// Restore is raft's.
func (m *machine) Restore(from io.ReadCloser) error {
	defer from.Close()
	data, err := io.ReadAll(io.LimitReader(from, maxState+1))
	if err != nil {
		return fmt.Errorf("read the witnesses' state: %w", err)
	}
	if len(data) > maxState {
		return fmt.Errorf("the witnesses' state has more than %d bytes", maxState)
	}
	state, err := lease.Unmarshal(data)
	if err != nil {
		return err
	}
	since, err := unmarshalSince(data)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state, m.since = state, since
	return nil
}

type snapshot []byte

// Persist is raft's.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		_ = sink.Cancel() // the error that matters is the write's
		return err
	}
	return sink.Close()
}

// Release is raft's.
func (s snapshot) Release() {}
