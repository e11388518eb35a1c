package bed

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is how a bed's hosts are made.
type Kind int

const (
	Light Kind = iota // systemd-nspawn on the machine's kernel: starts in under a second
	Full              // QEMU with its own kernel: limits are enforced, starts in 12 s to a minute
)

// String is the word for a kind in the command's output.
func (k Kind) String() string {
	if k == Full {
		return "full"
	}
	return "light"
}

// Where the agent in a host meets the test-bed.
const (
	AgentSocket = "/run/testbed/agent.sock"
	AgentPort   = "/dev/virtio-ports/shoal.testbed"
)

// spec is what the supervisor must know of a bed. It lies in the bed's directory.
type spec struct {
	Name     string
	Hosts    []hostSpec
	Base     string   // the directory of the light or the full base
	Registry string   // the registry's storage; empty: none
	Images   []string // what the registry has, by short names
	Nested   int      // how many light hosts to nest in each full host
	NestedOn string   // the disk with their root
	SMP      string   // of full hosts, QEMU's -smp; empty: 2
	KVM      bool     // full hosts run on KVM, else on QEMU's emulator
}

// hostSpec is one host.
type hostSpec struct {
	Name string
	Kind Kind
	Addr netip.Addr
	ID   string // machine-id(5)
}

// place is a bed's directory on the machine.
type place string

func bedPlace(name string) place { return place(filepath.Join(CacheDir(), "beds", name)) }

func (p place) lock() string    { return string(p) + ".lock" }
func (p place) spec() string    { return filepath.Join(string(p), "spec.json") }
func (p place) control() string { return filepath.Join(string(p), "control.sock") }
func (p place) program() string { return filepath.Join(string(p), "testbed") }
func (p place) log() string     { return filepath.Join(string(p), "log") }

func (p place) registry(elem string) string { return filepath.Join(string(p), "registry", elem) }

func (p place) host(name string, elem ...string) string {
	return filepath.Join(append([]string{string(p), "hosts", name}, elem...)...)
}

// agent is the socket on which a host's agent answers.
func (p place) agent(host string) string { return p.host(host, "run", "agent.sock") }

// console is the file that gets what a host writes to its console.
func (p place) console(host string) string { return p.host(host, "console.log") }

// supervisor is the process that holds the bed's lock, 0 when it ended.
func (p place) supervisor() (int, error) {
	text, err := os.ReadFile(p.lock())
	if err != nil {
		return 0, err
	}
	lock, err := tryLock(p.lock())
	if err == nil {
		return 0, lock.Close()
	} else if !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, err
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", p.lock(), err)
	}
	// Should only the bed's other processes still hold the lock, the number may be anyone's by now.
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(cmdline), "supervise\x00"+string(p)) {
		return 0, nil
	}
	return pid, nil
}

func (p place) readSpec() (spec, error) {
	var s spec
	text, err := os.ReadFile(p.spec())
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s: %w", p.spec(), err)
	}
	return s, nil
}

func (p place) writeSpec(s spec) error {
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(p.spec(), text, 0o600)
}
