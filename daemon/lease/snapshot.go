package lease

import (
	"encoding/json"
	"fmt"
)

// format is the version of snapshots and commands. Testdata holds a snapshot of
// each one that was released.
const format = 1

type snapshot struct {
	Format int    `json:"format"`
	State  *State `json:"state"`
}

// Marshal is the state as bytes, equal for equal states.
func (s *State) Marshal() ([]byte, error) {
	return json.Marshal(snapshot{format, s})
}

// Unmarshal reads what Marshal wrote, in this version or an older one.
func Unmarshal(data []byte) (*State, error) {
	in := snapshot{State: NewState()}
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("the witnesses' state: %w", err)
	}
	if in.Format < 1 || in.Format > format || in.State == nil {
		return nil, fmt.Errorf("the witnesses' state has format %d, this version reads up to %d: install the newer version again", in.Format, format)
	}
	if in.State.Epochs == nil || in.State.Claims == nil {
		return nil, fmt.Errorf("the witnesses' state lacks epochs or claims")
	}
	return in.State, nil
}

type entry struct {
	Format int `json:"format"`
	Command
}

// MarshalCommand is the command as an entry of the log.
func MarshalCommand(c Command) ([]byte, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	return json.Marshal(entry{format, c})
}

// UnmarshalCommand reads an entry. A witness that can't must stop: it would go
// on with another state than the others.
func UnmarshalCommand(data []byte) (Command, error) {
	var in entry
	if err := json.Unmarshal(data, &in); err != nil {
		return Command{}, fmt.Errorf("an entry of the witnesses' log: %w", err)
	}
	if in.Format < 1 || in.Format > format {
		return Command{}, fmt.Errorf("an entry of the witnesses' log has format %d, this version reads up to %d", in.Format, format)
	}
	return in.Command, in.Check()
}
