package bed

import (
	"context"
	"os"
	"os/exec"
	"sync"
)

// machineProcess is the process that is a host, and everything below it.
type machineProcess struct {
	host   hostSpec
	place  place
	groups cgroups // of the bed

	mu   sync.Mutex
	done chan struct{} // nil: never started; closed when the process ended
}

func (m *machineProcess) spec() hostSpec { return m.host }

// boot starts the host with the command that prepare returns; one that runs already is left alone.
func (m *machineProcess) boot(prepare func() ([]string, error), env ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.runs() {
		return nil
	}
	args, err := prepare()
	if err != nil {
		return err
	}
	groups, err := m.groups.child(m.host.Name)
	if err != nil {
		return err
	}
	console, err := os.OpenFile(m.place.console(m.host.Name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer console.Close()
	cmd := inCgroups(groups, args)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	m.done = done
	return nil
}

// inCgroups is a command that runs in groups from its first instruction.
func inCgroups(groups cgroups, args []string) *exec.Cmd {
	const enter = `while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit; shift; done; shift; exec "$@"`
	words := append([]string{"-c", enter, "sh"}, groups.dirs()...)
	return exec.Command("sh", append(append(words, "--"), args...)...)
}

func (m *machineProcess) runs() bool {
	if m.done == nil {
		return false
	}
	select {
	case <-m.done:
		return false
	default:
		return true
	}
}

func (m *machineProcess) running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.runs()
}

func (m *machineProcess) powerCut(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done == nil {
		return nil
	}
	groups, err := m.groups.child(m.host.Name)
	if err != nil {
		return err
	}
	if err := groups.kill(ctx); err != nil {
		return err
	}
	<-m.done
	return nil
}
