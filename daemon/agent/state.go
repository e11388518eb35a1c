package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/exclusive"
	"github.com/shoal-project/shoal/daemon/pod"
)

// stateFormat is the version of state.json. A newer one is refused: an older
// daemon would take its pods for strangers.
const stateFormat = 1

// ErrNewerState is why a daemon must not start: its pods' state was written by
// a newer one, and it would end what it can't understand.
var ErrNewerState = errors.New("pods on this host were started by a newer shoald: upgrade this one, or end them with the newer one first")

const stateFile = "state.json"

// state is what a worker must know after the daemon was killed. It is written
// before what it announces is done, so that nothing is ever unknown.
type state struct {
	Format     int                        `json:"format"`
	Pod        *v1.Pod                    `json:"pod"`
	Unit       string                     `json:"unit,omitempty"`   // the pod's scope
	Cgroup     string                     `json:"cgroup,omitempty"` // its directory
	CgroupPath string                     `json:"cgroupPath,omitempty"`
	Limits     string                     `json:"limits,omitempty"` // the scope's in force, as text; "": not known
	Held       map[string]string          `json:"held,omitempty"`   // processors that containers have to themselves
	IPs        []string                   `json:"ips,omitempty"`
	OCI        string                     `json:"oci,omitempty"`   // the OCI runtime of the sandbox's containers; "": the host's own
	Ready      bool                       `json:"ready,omitempty"` // the sandbox was made in full
	Ending     *pod.Ending                `json:"ending,omitempty"`
	Leave      *exclusive.Leave           `json:"leave,omitempty"` // by which the sandbox of an exclusive pod was made
	Containers map[string]*containerState `json:"containers"`
}

type containerState struct {
	Starting *pod.Attempt                 `json:"starting,omitempty"` // being made; it may or may not exist
	Current  *pod.Attempt                 `json:"current,omitempty"`
	Last     *v1.ContainerStateTerminated `json:"last,omitempty"`
	Backoff  pod.Backoff                  `json:"backoff,omitzero"`
}

func readState(dir string) (*state, error) {
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, err
	}
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &version); err == nil && version.Format > stateFormat {
		return nil, fmt.Errorf("%s has format %d, this version knows up to %d: %w", filepath.Join(dir, stateFile), version.Format, stateFormat, ErrNewerState)
	}
	s := &state{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, stateFile), err)
	}
	if s.Pod == nil || s.Pod.UID == "" {
		return nil, fmt.Errorf("%s names no pod", filepath.Join(dir, stateFile))
	}
	return s, nil
}

// write replaces the file as a whole. The directory is in memory (/run): a
// rename is enough, a crash of the machine takes it anyway.
func (s *state) write(dir string) error {
	s.Format = stateFormat
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	tmp := filepath.Join(dir, stateFile+".new")
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return os.Rename(tmp, filepath.Join(dir, stateFile))
}

// attemptDirs are the numbers of a container's runs that have a directory.
func attemptDirs(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && e.IsDir() {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}
