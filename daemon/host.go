package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/agent"
	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/cpuset"
	"github.com/shoal-project/shoal/daemon/credential"
	"github.com/shoal-project/shoal/daemon/image"
	"github.com/shoal-project/shoal/daemon/metrics"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/remote"
	"github.com/shoal-project/shoal/daemon/scope"
	"github.com/shoal-project/shoal/daemon/stats"
	"github.com/shoal-project/shoal/daemon/userns"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/dnsd"
	"github.com/shoal-project/shoal/manifests"
	"github.com/shoal-project/shoal/storage/volume"
)

// host is what this host gives pods: cgroups, a runtime, images, a network, names.
type host struct {
	d         *Daemon
	scopes    scope.Host
	note      string // what limits pods, in a line for people
	limits    scope.NodeLimits
	runtime   *container.Runtime
	images    *image.Store
	network   *network
	ways      *ways // to other hosts
	dns       atomic.Pointer[dnsd.Server]
	users     userns.Pool
	usersErr  error // why no pod can have a user namespace of its own
	runtimes  runtimes
	meter     *stats.Meter
	metrics   *metrics.Metrics
	requests  atomic.Pointer[api.Server]    // counts requests; nil until the API is served
	writes    atomic.Pointer[remote.Writer] // nil until then
	capacity  v1.ResourceList
	reserved  atomic.Int64 // processors that pods can't request
	logins    *credential.Source
	dirtyQoS  chan []*v1.Pod // holds one: the newest list of pods
	dirtyCPUs chan struct{}  // holds one: who holds which processors has changed

	// Of the loop, once it runs:
	cpus      cpuset.Node
	cpuConfig config.CPU          // that is in force
	told      []v1.ContainerImage // the images as the node tells of them; nil: they have changed

	mu     sync.Mutex
	resolv dnsd.Resolv // the host's resolvers, read again now and then; mu guards d.Config.DNS as well
	ips    []string    // its addresses, likewise
	moved  bool        // they have changed, and services have not followed yet; likewise
}

// openHost opens everything that a pod needs. What a pod can do without is an
// error only for the pods that need it.
func openHost(ctx context.Context, d *Daemon) (*host, error) {
	h := &host{d: d, network: newNetwork(), ways: newWays(), dirtyQoS: make(chan []*v1.Pod, 1), dirtyCPUs: make(chan struct{}, 1)}
	var err error
	if h.scopes, h.note, err = scope.Open(ctx, scope.Options{}, d.Log); err != nil {
		return nil, err
	}
	d.Log.Info(h.note)
	if h.images, err = image.Open(imageConfig(d), d.Log); err != nil {
		return nil, err
	}
	if h.logins, err = openLogins(d); err != nil {
		return nil, err
	}
	if h.runtime, err = h.findRuntime(); err != nil {
		return nil, err
	}
	if h.capacity, err = capacity(d.path("var/lib/shoal"), d.Config.Runtime.MaxPods); err != nil {
		return nil, err
	}
	addHugePages(h.capacity, "/sys/kernel/mm/hugepages")
	if err := h.openCPUs(); err != nil {
		return nil, err
	}
	hugePages, err := scope.HugePageSizes()
	if err != nil {
		d.Log.Warn("can't find the host's huge page sizes", "err", err)
	}
	h.limits = scope.NodeLimits{
		Controllers: h.scopes.Controllers(), CgroupV1: h.scopes.CgroupV1(), PodPidsLimit: d.Config.Runtime.PodPidsLimit,
		MemoryQoS: d.Config.Memory.QoS, ThrottlingFactor: d.Config.Memory.ThrottlingFactor, HugePageSizes: hugePages, AllocatableMemory: h.capacity.Memory().Value(),
	}
	d.host = h
	if n, err := d.openNetwork(); err != nil {
		d.Log.Error("no pod network: only pods with hostNetwork can run", "err", err)
		h.network.failed(err, d.Now())
	} else {
		h.network.found(n, d.Now())
	}
	h.readUsers()
	h.readAddresses()
	h.readResolv()
	h.dns.Store(dnsd.New(h.dnsConfig(), d.Log))
	return h, nil
}

func (h *host) close() {
	if n := h.network.now(); n != nil {
		n.Close()
	}
	if h.ways.router != nil {
		h.ways.router.Close()
	}
	h.images.Close()
	h.scopes.Close()
}

// findRuntime finds the programs that run containers.
func (h *host) findRuntime() (*container.Runtime, error) {
	oci, err := exec.LookPath(h.d.Config.Runtime.OCI)
	if err != nil {
		return nil, fmt.Errorf("the OCI runtime is missing (apt install %s): %w", filepath.Base(h.d.Config.Runtime.OCI), err)
	}
	conmon, err := exec.LookPath("conmon")
	if err != nil {
		return nil, fmt.Errorf("conmon is missing (apt install conmon): %w", err)
	}
	if _, err := exec.LookPath("catatonit"); err != nil {
		return nil, fmt.Errorf("catatonit is missing (apt install catatonit): %w", err)
	}
	r := &container.Runtime{
		Conmon: conmon, OCI: oci, Root: h.d.path("run/shoal/crun"), ExitDir: h.d.path("run/shoal/exits"), Log: h.d.Log,
	}
	if h.scopes.CgroupV1() || len(h.limits.Controllers) == 0 && len(h.scopes.Controllers()) == 0 && !unifiedCgroups() {
		if filepath.Base(oci) != "crun" {
			return nil, fmt.Errorf("%s can't run containers where cgroup v2 alone can't be written: set runtime.oci = \"crun\"", oci)
		}
		r.CgroupManager = "disabled"
	}
	return r, nil
}

// unifiedCgroups says whether the host's cgroup tree is version 2 alone, which
// is what OCI runtimes' cgroupfs managers can use below a scope.
func unifiedCgroups() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.procs")
	return err == nil
}

// imageConfig turns the configuration's registries into the store's.
func imageConfig(d *Daemon) image.Config {
	c := image.Config{Dir: d.path("var/lib/shoal/oci"), DropIn: d.path("var/lib/shoal/images")}
	byHost := make(map[string]image.Registry)
	for name, r := range d.Config.Registries {
		reg := byHost[name]
		reg.Host, reg.CAFile, reg.PlainHTTP = name, r.CAFile, r.PlainHTTP || reg.PlainHTTP
		for _, m := range r.Mirrors {
			u, err := url.Parse(m)
			if err != nil {
				continue // validated before
			}
			reg.Mirrors = append(reg.Mirrors, u.Host+strings.TrimSuffix(u.Path, "/"))
			if mirror := byHost[u.Host]; u.Scheme == "http" {
				mirror.Host, mirror.PlainHTTP = u.Host, true
				byHost[u.Host] = mirror
			}
		}
		byHost[name] = reg
	}
	for _, r := range byHost {
		c.Registries = append(c.Registries, r)
	}
	slices.SortFunc(c.Registries, func(a, b image.Registry) int { return strings.Compare(a.Host, b.Host) })
	return c
}

// hostAddresses are the host's own addresses, without loopback, link-local and
// the pod network's.
func hostAddresses(pods []netip.Prefix) []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var ips []string
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		if !ok || !ip.IsGlobalUnicast() || slices.ContainsFunc(pods, func(p netip.Prefix) bool { return p.Contains(ip) }) {
			continue
		}
		ips = append(ips, ip.String())
	}
	// IPv4 first, as status.hostIP is read by things that know no other.
	slices.SortStableFunc(ips, func(a, b string) int { return strings.Count(a, ":") - strings.Count(b, ":") })
	return ips
}

func (d *Daemon) agentConfig() agent.Config {
	h := d.host
	return agent.Config{
		Run: d.path("run/shoal/pods"), Lib: d.path("var/lib/shoal/pods"), Log: d.path("var/log/pods"),
		Node:           h.node,
		Serves:         h.d.serves,
		Limits:         h.limits,
		Volumes:        volume.NodeInfo{Allocatable: h.allocatable(), RecursiveReadOnly: setsMountsRecursively(), Token: d.tokens.Projected},
		Scopes:         h.scopes,
		Containers:     h.runtime,
		Images:         h.images,
		Network:        h.network.now(),
		Objects:        objects{d.view},
		NodeLogins:     h.nodeLogins,
		Refuse:         d.refuse,
		Room:           d.roomFor,
		Given:          d.given,
		OCI:            d.ociRuntime,
		Events:         d.events,
		Domain:         d.Config.Domain,
		ResolvConf:     h.resolvConf,
		Publish:        d.publishStatus,
		Flush:          d.store.Flush,
		Took:           func(operation string, t time.Duration) { h.metrics.Took(operation, t) },
		PullSecrets:    d.pullSecrets,
		Claims:         d.leases,
		Rules:          pod.Rules{UnsafeSysctls: d.Config.Security.AllowedUnsafeSysctls, AppArmor: container.AppArmorEnabled()},
		Users:          h.users,
		UserNamespaces: h.userNamespaces,
		CPUs:           h.cpus,
		CPUsChanged:    h.cpusChanged,
		SeccompDefault: d.Config.Runtime.SeccompDefault, MinOOMScoreAdj: minOOMScoreAdj(d),
		LogMaxSize: d.Config.Logs.MaxBytes, LogMaxFiles: d.Config.Logs.MaxFiles,
		Now: d.Now, Logger: d.Log,
	}
}

// setsMountsRecursively says whether the kernel has mount_setattr(2) (Linux
// 5.12), by which runtimes make a mount and those below it read-only: crun
// since 1.4, runc since 1.1.
func setsMountsRecursively() bool {
	return !errors.Is(unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}), unix.ENOSYS)
}

// minOOMScoreAdj is -1000 unless the daemon lacks CAP_SYS_RESOURCE, as in some
// containers: then no process may be protected better than the daemon itself
// is, or the OCI runtime fails.
func minOOMScoreAdj(d *Daemon) int {
	if mayRaiseLimits() {
		return -1000
	}
	own, err := strconv.Atoi(readLine("/proc/self/oom_score_adj"))
	if err != nil {
		own = 0
	}
	d.Log.Warn("shoald lacks CAP_SYS_RESOURCE: no pod can be protected from the OOM killer", "oom_score_adj", own)
	return own
}

// mayRaiseLimits says whether the daemon has CAP_SYS_RESOURCE.
func mayRaiseLimits() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// check repairs what others may have broken.
func (h *host) check(ctx context.Context) {
	h.readResolv()
	h.readAddresses()
	h.checkCPUs()
	h.mu.Lock()
	if h.moved {
		h.moved = false
		h.d.services.all()
	}
	h.mu.Unlock()
	poke(h.d.lead.look)
	n := h.network.now()
	if n == nil {
		return
	}
	broken, err := n.Check(ctx)
	if err != nil {
		h.d.Log.Error("can't repair the pod network", "err", err)
	}
	for _, uid := range broken {
		h.d.agent.Reattach(types.UID(uid))
	}
}

// loadDropIns loads the image archives that lie on the host, now and whenever
// that may have changed.
func (h *host) loadDropIns(ctx context.Context) {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	known := make(map[string]bool)
	for {
		_, problems := h.images.LoadDropIns(ctx)
		for _, p := range problems {
			if text := fmt.Sprintf("%s: %v", p.File, p.Err); !known[text] {
				known[text] = true
				h.d.events.Warning(h.d.nodeReference(), "InvalidImageArchive", "%s", text)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// resolvConf is a pod's /etc/resolv.conf.
func (h *host) resolvConf(p *v1.Pod) (string, error) {
	h.mu.Lock()
	resolv := h.resolv
	h.mu.Unlock()
	text, warnings := dnsd.ResolvConf(dnsd.PodDNS{
		Namespace: p.Namespace, Policy: p.Spec.DNSPolicy, Config: p.Spec.DNSConfig, HostNetwork: p.Spec.HostNetwork,
	}, resolv, h.nameservers(), h.d.Config.Domain)
	for _, w := range warnings {
		h.d.events.Warning(objectReference(p), "DNSConfigForming", "%s", w)
	}
	return text, nil
}

// nameservers are where pods ask: the bridge's addresses.
func (h *host) nameservers() []netip.Addr {
	n := h.network.now()
	if n == nil {
		return nil
	}
	return n.Gateway()
}

// readAddresses finds the host's addresses, which may come late (DHCP) and change.
func (h *host) readAddresses() {
	ips := hostAddresses(h.podRanges())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moved = h.moved || !sameAddresses(h.ips, ips)
	h.ips = ips
}

// addresses are the host's own, the primary one first.
func (h *host) addresses() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ips
}

// node is what pods may learn about the host.
func (h *host) node() pod.Node {
	return pod.Node{Name: h.d.Config.Node, IPs: h.addresses(), Allocatable: h.allocatable()}
}

func (h *host) readResolv() {
	resolv, err := dnsd.HostResolv(os.ReadFile)
	if err != nil {
		h.d.Log.Warn("can't read how this host resolves names", "err", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resolv = resolv
}

func (h *host) dnsConfig() dnsd.Config {
	c := dnsd.Config{Domain: h.d.Config.Domain, Clients: h.podRanges(), Upstreams: h.upstreams, Stubs: h.stubs}
	for _, ip := range h.addresses() {
		if a, err := netip.ParseAddr(ip); err == nil {
			c.Clients = append(c.Clients, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	for _, a := range h.nameservers() {
		c.Listen = append(c.Listen, netip.AddrPortFrom(a, 53))
	}
	return c
}

// podsDecided has the QoS classes' slices follow the pods.
func (h *host) podsDecided(pods []*v1.Pod) {
	select {
	case <-h.dirtyQoS: // an older list that nobody has looked at yet
	default:
	}
	h.dirtyQoS <- pods
}

// podRanges are where this host's pods have their addresses from.
func (h *host) podRanges() []netip.Prefix {
	if n := h.network.now(); n != nil {
		return n.Ranges()
	}
	return slices.Clone(h.d.Config.Network.PodCIDRs)
}

// running is the running side of pods for the API.
type running struct{ agent *agent.Agent }

func (r running) LogDir(p *v1.Pod) string { return r.agent.LogDir(p) }

func (r running) Exec(ctx context.Context, p *v1.Pod, cmd api.Exec) (int, error) {
	errs := &heard{to: cmd.Stderr}
	options := container.ExecOptions{
		Cmd: cmd.Command, Stdin: cmd.Stdin, Stdout: cmd.Stdout, Stderr: errs, TTY: cmd.TTY, Resize: sizes(ctx, cmd.Resize),
	}
	if cmd.TTY {
		errs.to, options.Stdout, options.Stderr = cmd.Stdout, errs, nil
	}
	code, err := r.agent.Exec(ctx, p, cmd.Container, options)
	return notStarted(errs, code, err)
}

// heard is a stream that knows whether anything was written to it.
type heard struct {
	to  io.Writer // nil: nobody listens
	any bool
}

func (h *heard) Write(b []byte) (int, error) {
	h.any = h.any || len(b) > 0
	if h.to == nil {
		return len(b), nil
	}
	return h.to.Write(b)
}

// notStarted makes what a shell makes of a command that can't be started: a line
// on its error output, where the OCI runtime has not written one, and an exit
// code, 126 or 127. So do docker and CRI-O; through containerd kubectl has an
// internal error, which a script can't tell from the node's.
func notStarted(errs *heard, code int, err error) (int, error) {
	refused := new(container.ExecError)
	if !errors.As(err, &refused) || refused.Code() == 0 {
		return code, err
	}
	if !errs.any {
		_, _ = io.WriteString(errs, refused.Text+"\r\n") // whoever has hung up has no use for it
	}
	return refused.Code(), nil
}

func (r running) Attach(ctx context.Context, p *v1.Pod, a api.Attach) error {
	return r.agent.Attach(ctx, p, a.Container, container.Streams{
		Stdin: a.Stdin, Stdout: a.Stdout, Stderr: a.Stderr, Resize: sizes(ctx, a.Resize),
	})
}

func (r running) Dial(ctx context.Context, p *v1.Pod, port uint16) (net.Conn, error) {
	return r.agent.Dial(ctx, p, port)
}

// sizes passes terminal sizes on until from is closed or ctx ends.
func sizes(ctx context.Context, from <-chan api.Size) <-chan container.Size {
	to := make(chan container.Size)
	go func() {
		defer close(to)
		for s := range from {
			select {
			case to <- container.Size(s):
			case <-ctx.Done():
				return
			}
		}
	}()
	return to
}

// objects looks up what pods refer to in the view.
type objects struct{ view *view.View }

func (o objects) ConfigMap(namespace, name string) (*v1.ConfigMap, bool) {
	obj, ok := o.view.Get(manifests.Key{Kind: "ConfigMap", Namespace: namespace, Name: name})
	cm, is := obj.(*v1.ConfigMap)
	return cm, ok && is
}

func (o objects) Secret(namespace, name string) (*v1.Secret, bool) {
	obj, ok := o.view.Get(manifests.Key{Kind: "Secret", Namespace: namespace, Name: name})
	s, is := obj.(*v1.Secret)
	return s, ok && is
}
