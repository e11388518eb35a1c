package bed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Inside is the body of the first process in a bed's namespaces: it makes the network, boots the hosts and does what
// comes in on the control socket. It returns only when something fails; the bed ends by its death. The bed's
// cgroup directories are given: the unified one, then the one in systemd's named hierarchy where the machine has that.
func Inside(dir string, cgroupDirs []string, log *slog.Logger) error {
	p := place(dir)
	s, err := p.readSpec()
	if err != nil {
		return err
	}
	if err := privateMounts(); err != nil {
		return err
	}
	if err := makeBridge(); err != nil {
		return err
	}
	groups := cgroups{unified: cgroupDirs[0]}
	if len(cgroupDirs) > 1 {
		groups.named = cgroupDirs[1]
	}
	w := &world{place: p, spec: s, log: log}
	for _, h := range s.Hosts {
		m, err := newMachine(p, s, h, groups)
		if err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
		w.machines = append(w.machines, m)
	}
	if err := w.serveNames(); err != nil {
		return err
	}
	if err := w.serveImages(); err != nil {
		return err
	}
	if err := w.startAll(); err != nil {
		return err
	}
	l, err := net.Listen("unix", p.control())
	if err != nil {
		return err
	}
	return serveControl(l, w)
}

// privateMounts detaches this process's mounts from the machine's and adds what the bed must have for itself.
func privateMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	// systemd-nspawn keeps locks and sockets there by machine name, which are n1, n2, ... in every bed.
	const locks = "/run/systemd/nspawn"
	if err := os.MkdirAll(locks, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", locks, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=700"); err != nil {
		return fmt.Errorf("mount %s: %w", locks, err)
	}
	return nil
}

func makeBridge() error {
	return runTool(exec.Command("sh", "-ec", fmt.Sprintf(`
ip link set lo up
ip link add %[1]s type bridge forward_delay 0
ip addr add %[2]s/%[3]d dev %[1]s
ip link set %[1]s up`, bridge, gateway, subnet.Bits())))
}

// machine is a host that can be switched on and off.
type machine interface {
	spec() hostSpec
	start() error
	// powerCut ends the host at once. What its programs wrote stays written.
	powerCut(ctx context.Context) error
	running() bool
}

func newMachine(p place, s spec, h hostSpec, groups cgroups) (machine, error) {
	if h.Kind == Full {
		return newFull(p, s, h, groups)
	}
	return newLight(p, s, h, groups)
}

// world is the bed as its first process sees it.
type world struct {
	place    place
	spec     spec
	log      *slog.Logger
	machines []machine

	mu    sync.Mutex
	parts [][]string // how the network is cut
}

func (w *world) machine(name string) (machine, error) {
	for _, m := range w.machines {
		if m.spec().Name == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("there is no host %q", name)
}

func (w *world) startAll() error {
	errs := make([]error, len(w.machines))
	var all sync.WaitGroup
	for i, m := range w.machines {
		all.Go(func() { errs[i] = m.start() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// cut separates hosts from the others, in addition to what is cut already; no hosts heals everything.
func (w *world) cut(hosts []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for _, m := range w.machines {
		names = append(names, m.spec().Name)
	}
	var parts [][]string
	if len(hosts) > 0 {
		for _, name := range hosts {
			if _, err := w.machine(name); err != nil {
				return err
			}
		}
		parts = append(w.parts, hosts)
	}
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(cutRules(names, parts))
	if err := runTool(nft); err != nil {
		return err
	}
	w.parts = parts
	return nil
}
