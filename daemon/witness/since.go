package witness

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/shoal-project/shoal/daemon/lease"
)

// since is when numbers (epochs and tokens) were given away, for people: by the
// wall clock of the leader that did, which decides nothing. It is in the log, so
// all witnesses have the same.
type since map[uint64]time.Time

// note is after a command was applied: before is the state's Count as it was.
func (s since) note(state *lease.State, before uint64, at time.Time) {
	if state.Count == before {
		return
	}
	s[state.Count] = at.UTC()
	if len(s) <= 2*(len(state.Epochs)+len(state.Claims))+16 {
		return
	}
	used := make(map[uint64]bool)
	for _, e := range state.Epochs {
		used[e.Number] = true
	}
	for _, c := range state.Claims {
		used[c.Token] = true
	}
	maps.DeleteFunc(s, func(n uint64, _ time.Time) bool { return !used[n] })
}

func (s since) clone() since { return maps.Clone(s) }

// marshal is the state as bytes, with what is known of its numbers.
func (s since) marshal(state *lease.State) ([]byte, error) {
	data, err := state.Marshal()
	if err != nil {
		return nil, err
	}
	fields := make(map[string]json.RawMessage)
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	if fields["since"], err = json.Marshal(s); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// unmarshalSince reads what marshal wrote. A snapshot of before has none.
func unmarshalSince(data []byte) (since, error) {
	var in struct {
		Since since `json:"since"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("the witnesses' state: %w", err)
	}
	if in.Since == nil {
		in.Since = make(since)
	}
	return in.Since, nil
}
