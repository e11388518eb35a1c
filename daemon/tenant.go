package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/agent"
	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/exclusive"
	"github.com/shoal-project/shoal/daemon/gate"
	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/lease"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/scope"
	"github.com/shoal-project/shoal/daemon/tenure"
	"github.com/shoal-project/shoal/manifests"
)

const (
	// leaseUnit is the lease process' unit. What is started once is never restarted
	// by shoald.
	leaseUnit = agent.LeaseUnit
	// leasePause is between two tries to reach the lease process.
	leasePause = time.Second
	// leaseRestart is between two tries to start it.
	leaseRestart = 10 * time.Second
)

// tenant is what the daemon has to do with its host's lease process.
type tenant struct {
	client *tenure.Client
	stands atomic.Pointer[tenure.Standing] // nil: the process does not run
	wanted atomic.Bool                     // it is to run
	wake   chan struct{}                   // holds one: tell it now
	failed atomic.Pointer[string]          // why it does not run
}

// runLease has the lease process run where it is needed, and tells it what it
// has to know, until ctx ends.
func (d *Daemon) runLease(ctx context.Context) {
	var started time.Time
	for ctx.Err() == nil {
		err := d.tellLease(ctx)
		if ctx.Err() != nil {
			return
		}
		d.leases.unheard(err)
		if old := d.tenant.stands.Swap(nil); old != nil {
			d.Log.Error("the lease process is gone", "err", err)
			_ = d.do(ctx, d.leaseChanged)
		}
		if d.leaseWanted() && d.Now().Sub(started) > leaseRestart {
			started = d.Now()
			d.startLease(ctx, err)
		}
		select {
		case <-time.After(leasePause):
		case <-d.tenant.wake:
		case <-ctx.Done():
		}
	}
}

// leaseWanted is whether the lease process is to run. One that runs is never
// ended for want of work.
func (d *Daemon) leaseWanted() bool {
	return d.tenant.wanted.Load() || d.Config.Lease.Always || d.fleet.gossip.Load() != nil
}

// wantLease has the lease process run from here on.
func (d *Daemon) wantLease() {
	if !d.tenant.wanted.Swap(true) {
		wake(d.tenant.wake)
	}
}

func (d *Daemon) startLease(ctx context.Context, gone error) {
	if !errors.Is(gone, tenure.ErrNotRunning) {
		return // it runs, and does not answer: its watchdog is systemd's
	}
	text := ""
	if err := scope.StartService(ctx, d.host.scopes, leaseUnit); err != nil {
		text = err.Error()
	}
	if old := d.tenant.failed.Swap(&text); text != "" && (old == nil || *old != text) {
		d.Log.Error("the lease process does not start: exclusive pods wait", "err", text)
	}
}

// tellLease is one connection's worth of telling. It ends with an error.
func (d *Daemon) tellLease(ctx context.Context) error {
	var s tenure.Standing
	for {
		var host tenure.Host
		t := tenure.Tell{Seen: s.Version}
		// In the loop: a daemon whose loop hangs is to be silent.
		err := d.do(ctx, func() { host, t.Word = d.leaseHost(), d.leaseWord(s) })
		if err != nil {
			return err
		}
		if s.Known != tenure.Sum(host) {
			t.Host = &host
		}
		if s, err = d.tenant.client.Tell(ctx, t); err != nil {
			return err
		}
		d.leases.heard(exclusive.Standing{Epoch: s.Lease.Epoch, Deadline: s.Lease.Deadline, Loss: s.Lease.Loss, Problem: s.Problem})
		stands := s // s is written anew while others read this one
		old := d.tenant.stands.Swap(&stands)
		if old == nil || old.Self != s.Self {
			wake(d.fleet.news.tags)
		}
		if old == nil || old.Version != s.Version {
			if err := d.do(ctx, d.leaseChanged); err != nil {
				return err
			}
		}
	}
}

// leaseWord is what the lease process has to know of the daemon, which was told
// of that standing. A host that shuts down ends its pods itself, in their order,
// before it hands over.
func (d *Daemon) leaseWord(s tenure.Standing) gate.Word {
	w := gate.Word{Stop: d.shuttingDown() && !d.agent.RunsExclusive()}
	if d.agent.Cleared() {
		w.Cleared = s.Lease.Loss
	}
	return w
}

// leaseChanged is called when the host's lease stands otherwise.
func (d *Daemon) leaseChanged() {}

// leaseHost is this host and the others, for the lease process.
func (d *Daemon) leaseHost() tenure.Host {
	c := d.Config
	h := tenure.Host{Node: c.Node, Identity: d.path("var/lib/shoal/identity"), Joins: len(d.joinList()) > 0, Expect: c.Lease.BootstrapExpect}
	if d.fleet.wanted && d.hasKey() {
		h.KeyFile = d.path(c.Cluster.KeyFile)
		h.Listen = ":" + strconv.Itoa(c.Lease.Port)
		if c.Cluster.BindAddr.IsValid() {
			h.Listen = netip.AddrPortFrom(c.Cluster.BindAddr, uint16(c.Lease.Port)).String()
		}
	}
	self := tenure.Member{Name: c.Node, Alive: true, Only: c.Lease.OnlyWitness, Zone: d.zoneOf(c.Node)}
	if s := d.tenant.stands.Load(); s != nil {
		self.Witness = s.Self
	}
	seen := map[string]bool{c.Node: true}
	if g := d.fleet.gossip.Load(); g != nil {
		self.Address = net.JoinHostPort(g.Address().Addr().String(), strconv.Itoa(c.Lease.Port))
		for _, m := range g.Members() {
			if !seen[m.Name] {
				seen[m.Name] = true
				h.Members = append(h.Members, d.leaseMember(m))
			}
		}
	}
	h.Members = append(h.Members, self)
	// Those that were not met since the start are known all the same: who is not
	// here was forgotten, and loses a seat.
	d.records.Read(func(records map[string]*record.Record) {
		for name := range records {
			if !seen[name] {
				h.Members = append(h.Members, tenure.Member{Name: name, Key: d.pins.Key(name), Zone: d.zoneOf(name)})
			}
		}
	})
	slices.SortFunc(h.Members, func(a, b tenure.Member) int { return strings.Compare(a.Name, b.Name) })
	return h
}

func (d *Daemon) leaseMember(m gossip.Member) tenure.Member {
	out := tenure.Member{
		Name: m.Name, Key: d.pins.Key(m.Name), Zone: d.zoneOf(m.Name),
		Alive: m.Status == gossip.Alive || m.Status == gossip.Leaving, Left: m.Status == gossip.Left,
	}
	tag, ok := parseLeaseTag(m.Tags[tagLease])
	if !ok {
		return out
	}
	out.Address = netip.AddrPortFrom(m.Addr.Addr(), tag.port).String()
	out.Witness, out.Only = tag.Witness, tag.only
	return out
}

// zoneOf is the zone that a node's labels name.
func (d *Daemon) zoneOf(node string) string {
	o, ok := d.view.Get(manifests.Key{Kind: "Node", Name: node})
	if !ok {
		return ""
	}
	return o.GetLabels()[v1.LabelTopologyZone]
}

// leaseTag is what a host says of its lease process in gossip.
type leaseTag struct {
	tenure.Witness
	port uint16
	only bool
}

func (t leaseTag) String() string {
	if t.Store == "" {
		return "" // it does not run
	}
	only := ""
	if t.only {
		only = "o"
	}
	return strings.Join([]string{strconv.Itoa(int(t.port)), t.Store, t.Log, strconv.Itoa(t.Seats), only}, "/")
}

func parseLeaseTag(text string) (t leaseTag, ok bool) {
	parts := strings.Split(text, "/")
	if len(parts) < 5 || len(parts[1]) > 32 || len(parts[2]) > 40 {
		return t, false
	}
	port, err := strconv.ParseUint(parts[0], 10, 16)
	seats, bad := strconv.Atoi(parts[3])
	if err != nil || bad != nil || port == 0 || parts[1] == "" || seats < 0 {
		return t, false
	}
	t.port, t.Store, t.Log, t.Seats, t.only = uint16(port), parts[1], parts[2], seats, parts[4] == "o"
	return t, true
}

// leaseTag is this host's.
func (d *Daemon) leaseTag() string {
	s := d.tenant.stands.Load()
	if s == nil {
		return ""
	}
	return leaseTag{s.Self, uint16(d.Config.Lease.Port), d.Config.Lease.OnlyWitness}.String()
}

// statusLease is nil while nobody needs a lease.
func (d *Daemon) statusLease() *api.StatusLease {
	s := d.tenant.stands.Load()
	switch {
	case s != nil:
		return &api.StatusLease{Epoch: s.Lease.Epoch, Leader: s.Leader, Witnesses: s.Witnesses, Problem: s.Problem}
	case !d.leaseWanted():
		return nil
	}
	l := &api.StatusLease{Problem: tenure.ErrNotRunning.Error()}
	if why := d.tenant.failed.Load(); why != nil && *why != "" {
		l.Problem = *why
	}
	return l
}

// leaveSeat gives this host's vote back before it goes. Without a majority it
// stays where it is: the others take it once they have one.
func (d *Daemon) leaveSeat(ctx context.Context) {
	if d.tenant.stands.Load() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := d.tenant.client.Leave(ctx); err != nil {
		d.Log.Warn("this host leaves with its seat as a witness, if it has one", "err", err)
	}
}

// forgetLease has the witnesses forget a node: what it holds pinned is free. A
// node whose lease still runs they do not forget.
func (d *Daemon) forgetLease(ctx context.Context, node string) error {
	if d.tenant.stands.Load() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := d.tenant.client.Do(ctx, lease.Command{Do: lease.Forget, Node: node})
	if err == nil && out.Refused != lease.Granted {
		err = errors.New(string(out.Refused))
	}
	return err
}
