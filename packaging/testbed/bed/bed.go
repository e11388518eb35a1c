package bed

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/packaging/testbed/agent"
)

// Config says what bed to make.
type Config struct {
	Hosts    int          // how many: n1, n2, ...; 0 means 1, at most 200
	Kind     Kind         // of every host
	Name     string       // empty: one nobody else has
	Packages []string     // of Debian, on light hosts besides what all have: another root, which takes half a minute to make
	Images   []string     // what the bed's registry serves, from ImageNames; empty: no registry
	SMP      string       // a full host's processors as QEMU's -smp has them, "4,threads=2"; empty: 2
	Nested   int          // how many light hosts inside each full host, see Host.Nested
	Detached bool         // the bed outlives this process, until Down
	Log      *slog.Logger // nil: silent
}

// Bed is some hosts on a private network.
type Bed struct {
	spec    spec
	place   place
	control controlClient
	owner   *owner // nil when another process made the bed
	hosts   map[string]*Host
	in      *Host // the full host that this bed is inside of; nil: on the machine
}

// owner is what the process that made a bed holds of it.
type owner struct {
	lifeline *os.File // closing it ends the bed
	ended    <-chan struct{}
	unwatch  func() bool
	once     sync.Once
}

// Up makes a bed and returns when every host's systemd has started. Unless detached, the bed ends with Down, with ctx
// or with this process, whichever is first. It needs root.
func Up(ctx context.Context, c Config) (*Bed, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a test-bed needs root: namespaces, mounts and cgroups")
	}
	s, err := plan(c)
	if err != nil {
		return nil, err
	}
	if err := Collect(ctx); err != nil {
		return nil, fmt.Errorf("remove dead beds: %w", err)
	}
	if err := allowWatches(); err != nil {
		return nil, fmt.Errorf("let hosts watch files: %w", err)
	}
	base := lightBase(c.Packages...)
	if c.Kind == Full {
		base = fullBase()
	}
	if s.Base, err = base.make(ctx, c.Log); err != nil {
		return nil, err
	}
	if c.Kind == Full {
		s.KVM = kvmBoots(ctx, s.Base)
	}
	if c.Nested > 0 {
		if err := s.nest(ctx, c); err != nil {
			return nil, err
		}
	}
	if len(c.Images) > 0 {
		registry, err := registryRecipe(c.Images, c.Log)
		if err != nil {
			return nil, err
		}
		if s.Registry, err = registry.make(ctx, c.Log); err != nil {
			return nil, err
		}
		s.Images = c.Images
	}
	program, err := Program(ctx)
	if err != nil {
		return nil, err
	}
	b, err := launch(ctx, s, program, c.Detached)
	if err != nil {
		return nil, err
	}
	if err := b.await(ctx); err != nil {
		return nil, errors.Join(err, b.Down())
	}
	if err := b.nestAll(ctx); err != nil {
		return nil, errors.Join(err, b.Down())
	}
	if !c.Detached {
		b.owner.unwatch = context.AfterFunc(ctx, func() { _ = b.Down() })
	}
	return b, nil
}

// plan turns a wish into hosts.
func plan(c Config) (spec, error) {
	count := max(c.Hosts, 1)
	if count > maxHosts {
		return spec{}, fmt.Errorf("%d hosts are more than the %d that have addresses", count, maxHosts)
	}
	s := spec{Name: c.Name, SMP: c.SMP}
	if s.Name == "" {
		s.Name = "bed-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano()%1e9, 36)
	}
	if s.Name != filepath.Base(s.Name) || s.Name[0] == '.' {
		return spec{}, fmt.Errorf("name %q: must be good as a file's name", s.Name)
	}
	for i := range count {
		id := make([]byte, 16)
		_, _ = rand.Read(id) // never fails, see crypto/rand
		s.Hosts = append(s.Hosts, hostSpec{
			Name: fmt.Sprintf("n%d", i+1), Kind: c.Kind, Addr: hostAddr(i + 1), ID: hex.EncodeToString(id),
		})
	}
	return s, nil
}

// launch starts the supervisor.
func launch(ctx context.Context, s spec, program string, detached bool) (*Bed, error) {
	p := bedPlace(s.Name)
	if limit := len(unix.RawSockaddrUnix{}.Path); len(p.agent(s.Hosts[len(s.Hosts)-1].Name)) >= limit {
		return nil, fmt.Errorf("%s is too long a directory for sockets: set SHOAL_TESTBED_CACHE", p)
	}
	if err := os.MkdirAll(filepath.Dir(string(p)), 0o700); err != nil {
		return nil, err
	}
	lock, err := tryLock(p.lock())
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("bed %q exists: `testbed down` ends it", s.Name)
	} else if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := os.MkdirAll(string(p), 0o700); err != nil {
		return nil, err
	}
	if err := errors.Join(copyProgram(program, p.program()), p.writeSpec(s)); err != nil {
		return nil, errors.Join(err, remove(p))
	}
	o, err := startSupervisor(p, lock, detached)
	if err != nil {
		return nil, errors.Join(err, remove(p))
	}
	return attach(p, s, o, nil), nil
}

func startSupervisor(p place, lock *os.File, detached bool) (*owner, error) {
	args := []string{p.program(), "supervise", string(p)}
	if belowSystemd() {
		scope := []string{"systemd-run", "--quiet", "--scope", "--collect", "--property=Delegate=yes", "--"}
		args = append(scope, args...)
	}
	log, err := os.OpenFile(p.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = []*os.File{lock}
	o := &owner{unwatch: func() bool { return true }}
	if !detached {
		var far *os.File
		if far, o.lifeline, err = os.Pipe(); err != nil {
			return nil, err
		}
		defer far.Close()
		cmd.Args = append(cmd.Args, "--lifeline")
		cmd.Stdin = far
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	o.ended = ended
	return o, nil
}

// Open returns a bed that another process made.
func Open(name string) (*Bed, error) {
	p := bedPlace(name)
	s, err := p.readSpec()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no bed %q", name)
	} else if err != nil {
		return nil, err
	}
	b := attach(p, s, nil, nil)
	if s.Nested > 0 {
		for _, h := range b.hosts {
			if h.nested, err = h.attachNested(s.Nested); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

func attach(p place, s spec, o *owner, in *Host) *Bed {
	dial := func(ctx context.Context, path string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	if in != nil {
		dial = in.dialIn
	}
	b := &Bed{spec: s, place: p, owner: o, hosts: map[string]*Host{}, in: in}
	b.control = newControlClient(func(ctx context.Context) (net.Conn, error) { return dial(ctx, p.control()) })
	for _, h := range s.Hosts {
		client := agent.NewClient(func(ctx context.Context) (net.Conn, error) { return dial(ctx, p.agent(h.Name)) })
		b.hosts[h.Name] = &Host{bed: b, spec: h, client: client}
	}
	return b
}

// nest adds to a bed's spec what its full hosts need to nest others.
func (s *spec) nest(ctx context.Context, c Config) error {
	if c.Kind != Full {
		return errors.New("only full hosts can nest others")
	}
	light, err := lightBase().make(ctx, c.Log)
	if err != nil {
		return err
	}
	disk, err := nestedDisk(light).make(ctx, c.Log)
	s.Nested, s.NestedOn = c.Nested, filepath.Join(disk, "disk.raw")
	return err
}

func (b *Bed) nestAll(ctx context.Context) error {
	if b.spec.Nested == 0 {
		return nil
	}
	for _, name := range b.HostNames() {
		nested, err := b.hosts[name].nest(ctx, b.spec.Nested)
		if err != nil {
			return err
		}
		b.hosts[name].nested = nested
	}
	return nil
}

// await returns when all hosts are ready, or the bed's log when it ended instead.
func (b *Bed) await(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-b.owner.ended:
			text, _ := os.ReadFile(b.place.log())
			cancel(fmt.Errorf("the bed ended: %s", tail(text, 2000)))
		case <-ctx.Done():
		}
	}()
	if err := b.awaitControl(ctx); err != nil {
		return err
	}
	for _, name := range b.HostNames() {
		if err := b.hosts[name].await(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bed) awaitControl(ctx context.Context) error {
	return poll(ctx, func() error { _, err := b.control.hosts(ctx); return err })
}

// poll tries until it works or ctx ends; then the last failure is part of the error.
func poll(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		}
	}
}

// Name is what Open takes.
func (b *Bed) Name() string { return b.spec.Name }

// HostNames lists the hosts in the order of their numbers.
func (b *Bed) HostNames() []string {
	var names []string
	for _, h := range b.spec.Hosts {
		names = append(names, h.Name)
	}
	return names
}

// Host is the host of that name; it panics when there is none, which is a mistake in the test.
func (b *Bed) Host(name string) *Host {
	h, ok := b.hosts[name]
	if !ok {
		panic(fmt.Sprintf("bed %s has no host %q", b.Name(), name))
	}
	return h
}

// Has tells whether there is a host of that name.
func (b *Bed) Has(name string) bool { return b.hosts[name] != nil }

// States tells how the hosts are doing.
func (b *Bed) States(ctx context.Context) ([]HostState, error) { return b.control.hosts(ctx) }

// Cut separates the named hosts from all others; among themselves they still talk. Cutting again separates further.
// The bed's own address stays reachable for everyone.
func (b *Bed) Cut(ctx context.Context, hosts ...string) error {
	if len(hosts) == 0 {
		return errors.New("cut: no host named")
	}
	return b.control.post(ctx, "/cut", hosts)
}

// Heal undoes every Cut.
func (b *Bed) Heal(ctx context.Context) error { return b.control.post(ctx, "/cut", []string{}) }

// Down ends the bed and returns when nothing of it is left. Calling it again does nothing.
func (b *Bed) Down() error {
	for _, h := range b.hosts {
		h.client.Close()
	}
	if b.in != nil {
		_, err := b.in.Run(context.Background(), "/run/testbed/testbed", "down", "--bed", b.Name())
		return err
	}
	if b.owner == nil || b.owner.lifeline == nil {
		return b.end()
	}
	b.owner.once.Do(func() {
		b.owner.unwatch()
		_ = b.owner.lifeline.Close()
		<-b.owner.ended
	})
	return b.vanished()
}

// end tells the supervisor of a bed to stop, by the process that holds the lock, and waits for it.
func (b *Bed) end() error {
	pid, err := b.place.supervisor()
	if err != nil {
		return err
	}
	if pid != 0 {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return b.vanished()
}

// vanished waits until the bed's supervisor let go of the lock and removes what it could not.
func (b *Bed) vanished() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 3*time.Minute,
		fmt.Errorf("bed %s does not end: see %s", b.Name(), b.place.log()))
	defer cancel()
	lock, err := lockFile(ctx, b.place.lock())
	if err != nil {
		return err
	}
	if err := lock.Close(); err != nil {
		return err
	}
	return collect(ctx, b.place.lock())
}

// Beds lists the beds of this machine that run.
func Beds() ([]string, error) {
	paths, err := filepath.Glob(bedPlace("*").lock())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, path := range paths {
		lock, err := tryLock(path)
		if errors.Is(err, unix.EWOULDBLOCK) {
			names = append(names, filepath.Base(path[:len(path)-len(".lock")]))
		} else if err != nil {
			return nil, err
		} else if err := lock.Close(); err != nil {
			return nil, err
		}
	}
	slices.Sort(names)
	return names, nil
}
