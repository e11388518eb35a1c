package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
	"github.com/shoal-project/shoal/proxy/podcidr"
	"github.com/shoal-project/shoal/proxy/podnet"
	"github.com/shoal-project/shoal/proxy/podroute"
)

// conditionRoutes is whether all other hosts' pods can be reached.
const conditionRoutes v1.NodeConditionType = "shoal.io/PodRoutesReady"

// ways is the pod network between hosts. The goroutine of followWays owns what
// has no lock.
type ways struct {
	router   *podroute.Router
	dirty    chan struct{} // holds one: a node may say something else
	moved    chan struct{} // holds one: this node has other ranges
	applied  string        // the plan in force, as text
	notes    string        // what was said of the backends
	replaced types.UID     // the pod whose sandbox is being replaced
	since    time.Time     // since when

	mu       sync.Mutex
	claims   []podcidr.Claim
	said     networkSaid
	summary  string
	problems []string
	changed  time.Time // of problems being none or some
}

func newWays() *ways { return &ways{dirty: make(chan struct{}, 1), moved: make(chan struct{}, 1)} }

// state is the node's claims, what it says of them, and what is wrong.
func (w *ways) state() (claims []podcidr.Claim, said networkSaid) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.claims), w.said
}

// words are how other hosts are reached, what is wrong, and since when.
func (w *ways) words() (summary string, problems []string, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.summary, slices.Clone(w.problems), w.changed
}

// claimed puts claims down. It says whether they are others.
func (w *ways) claimed(claims []podcidr.Claim) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	same := slices.Equal(w.claims, claims)
	w.claims = claims
	return !same
}

// say puts down what the node tells of its network.
func (w *ways) say(said networkSaid, summary string, problems []string, now time.Time) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if (len(w.problems) == 0) != (len(problems) == 0) || w.changed.IsZero() {
		w.changed = now
	}
	changed = !reflect.DeepEqual(w.said, said) || w.summary != summary || !slices.Equal(w.problems, problems)
	w.said, w.summary, w.problems = said, summary, problems
	return changed
}

// openWays opens what leads to other hosts, and finds this host's own networks.
// It fails only where the kernel's routes can't be read.
func (d *Daemon) openWays() (own []netip.Prefix, err error) {
	w := d.host.ways
	if w.router == nil {
		if w.router, err = podroute.Open(d.Log); err != nil {
			return nil, err
		}
	}
	own, _, err = w.router.Networks(d.Config.Network.Bridge)
	return own, err
}

// followWays keeps this node's ranges and the ways to other nodes right, until
// ctx ends. Every node looks for itself.
func (d *Daemon) followWays(ctx context.Context) {
	select {
	case <-d.host.network.opened:
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(30 * time.Second) // what somebody else changed in the kernel
	defer tick.Stop()
	soon := time.NewTimer(0)
	defer soon.Stop()
	for {
		select {
		case <-d.host.ways.dirty:
			select { // many nodes change many times while a cluster forms
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		case <-tick.C:
		case <-soon.C:
		case <-ctx.Done():
			return
		}
		if d.lookAtWays(ctx) {
			soon.Reset(time.Second)
		}
	}
}

// lookAtWays does all that once. again: pods wait for their sandboxes' turn.
func (d *Daemon) lookAtWays(ctx context.Context) (again bool) {
	w, n := d.host.ways, d.host.network.now()
	networks, onLink, err := w.router.Networks(d.Config.Network.Bridge)
	if err != nil {
		d.Log.Error("can't read this host's routes", "err", err)
		return false
	}
	others := d.othersSaid()
	problems := d.lookAtClaims(ctx, n, others, networks)
	claims, _ := w.state()
	said, key, notes := d.ownSite(claims)
	problems = append(problems, disagreements(said, others)...)
	mtu, small := podroute.MTU(d.underlayMTU(said), said.Backends, len(said.Addresses) > 0 && said.Addresses[0].Is6(), hasIPv6(said.CIDRs), d.Config.Network.MTU)
	if small != "" {
		problems = append(problems, small)
	}
	if len(said.Backends) == 0 {
		mtu = d.Config.Network.MTU // nobody else to think of: 0 leaves it as it is
	}
	plan := podroute.Decide(said.Site, sitesOf(others, claims), podroute.Host{
		Cluster: d.Config.Network.ClusterCIDRs, Networks: networks, OnLink: onLink, MTU: mtu,
	})
	problems = append(problems, plan.Problems...)
	before := n.MTU()
	reach := podnet.Reach{Cluster: d.Config.Network.ClusterCIDRs, Sealed: plan.Sealed()}
	if err := n.SetReach(reach, mtu); err != nil {
		problems = append(problems, "can't make the pod network fit the way to other hosts: "+err.Error())
	}
	if err := w.router.Apply(plan, key, uint16(d.Config.Network.WireGuardPort)); err != nil {
		problems = append(problems, err.Error())
	}
	if text := plan.String(); text != w.applied {
		w.applied = text
		d.Log.Info("ways to the pods of other hosts", "summary", plan.Summary())
	}
	if n.MTU() != before {
		for _, p := range d.pods() {
			d.agent.Reattach(p.UID)
		}
	}
	summary := plan.Summary()
	if notes != "" {
		summary += "; " + notes
	}
	d.sayWays(ctx, said, summary, notes, problems)
	return d.replaceMisplaced(n)
}

func hasIPv6(list []netip.Prefix) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// noticeWays has the ways looked at when a node says something else of its network.
func (d *Daemon) noticeWays(key manifests.Key, old, now view.Object) {
	if key.GroupKind() != workload.KindNode {
		return
	}
	says := func(o view.Object) string {
		if node, is := o.(*v1.Node); is {
			return node.Annotations[annotationNetwork]
		}
		return ""
	}
	if says(old) != says(now) {
		wake(d.host.ways.dirty)
	}
}

// sayWays tells people and the other nodes.
func (d *Daemon) sayWays(ctx context.Context, said networkSaid, summary, notes string, problems []string) {
	w := d.host.ways
	_, old, _ := w.words()
	if notes != w.notes {
		w.notes = notes
		if notes != "" {
			d.Log.Warn("the way to other hosts is not the one that was asked for", "reason", notes)
		}
	}
	if !w.say(said, summary, problems, d.Now()) {
		return
	}
	_ = d.do(ctx, func() { // fails only when the daemon ends
		for _, p := range problems {
			if !slices.Contains(old, p) {
				d.events.Warning(d.nodeReference(), "PodRoutesFailed", "%s", p)
			}
		}
		d.publishNode()
	})
}

// lookAtClaims gives way to older claims, and moves to other ranges then.
func (d *Daemon) lookAtClaims(ctx context.Context, n *podnet.Network, others []networkSaid, avoid []netip.Prefix) []string {
	w := d.host.ways
	have, _ := w.state()
	theirs := claimsOf(others)
	l := rangeLook{node: d.Config.Node, network: d.Config.Network, have: have, others: theirs, avoid: avoid, now: d.Now().UnixMilli()}
	claims, problems, err := l.claims()
	if err != nil {
		problems = append(problems, err.Error())
	}
	if len(claims) == 0 || slices.Equal(claims, have) {
		if len(claims) == 0 { // others must not be told to come here
			w.claimed(nil)
		}
		return problems
	}
	if err := d.keepClaims(claims); err != nil {
		return append(problems, err.Error())
	}
	if slices.Equal(cidrsOf(claims), n.PodCIDRs()) {
		w.claimed(claims)
		return problems
	}
	if err := n.Move(ctx, cidrsOf(claims)); err != nil {
		return append(problems, err.Error())
	}
	w.claimed(claims)
	wake(w.moved)
	d.host.readAddresses()
	reason := "network.cluster_cidrs or pod_cidrs have changed"
	for _, c := range have {
		if to, loses := podcidr.Loses(c, theirs); loses {
			reason = fmt.Sprintf("node %s has %v since %s, which is before this node's claim", to.Node, to.CIDR, sinceText(to))
			if to.Fixed {
				reason = fmt.Sprintf("node %s has %v by its configuration", to.Node, to.CIDR)
			}
		}
	}
	d.Log.Warn("this node's pod CIDRs have changed", "was", fmt.Sprint(cidrsOf(have)), "cidrs", fmt.Sprint(cidrsOf(claims)), "reason", reason)
	_ = d.do(ctx, func() {
		d.events.Warning(d.nodeReference(), "PodCIDRChanged", "Pods get addresses of %v instead of %v, one after another, in new sandboxes: %s", cidrsOf(claims), cidrsOf(have), reason)
	})
	return problems
}

// replacePatience is how long the next pod waits for the former one's sandbox.
const replacePatience = time.Minute

// replaceMisplaced has one pod after another get a sandbox, and with it an
// address, in the node's ranges. It says whether some are left.
func (d *Daemon) replaceMisplaced(n *podnet.Network) bool {
	w := d.host.ways
	list := n.Misplaced()
	if len(list) == 0 {
		w.replaced = ""
		return false
	}
	if slices.Contains(list, string(w.replaced)) && d.Now().Sub(w.since) < replacePatience {
		return true
	}
	next := 0
	if i := slices.Index(list, string(w.replaced)); i >= 0 {
		next = (i + 1) % len(list)
	}
	w.replaced, w.since = types.UID(list[next]), d.Now()
	d.agent.ReplaceSandbox(w.replaced, "PodCIDRChanged", fmt.Sprintf("The node's pod CIDR is %v now: the pod gets a new sandbox, with another address.", n.PodCIDRs()))
	return true
}

// ownSite is what this node tells the others, and its WireGuard key. notes say
// what of the configuration can't be had.
func (d *Daemon) ownSite(claims []podcidr.Claim) (said networkSaid, key wgtypes.Key, notes string) {
	said.Claims, said.Spaces = written(claims), spacesText(d.Config.Network.Spaces())
	said.Node, said.CIDRs = d.Config.Node, cidrsOf(claims)
	if !d.fleetWanted() {
		return said, key, ""
	}
	said.Addresses = d.underlay()
	w := d.host.ways
	wanted := []podroute.Backend{podroute.Backend(d.Config.Network.Backend)}
	if d.Config.Network.Backend == config.BackendAuto {
		wanted = []podroute.Backend{podroute.WireGuard, podroute.VXLAN}
	}
	for _, b := range wanted {
		err := w.router.Offers(b)
		if err == nil && b == podroute.WireGuard {
			key, err = podroute.OpenKey(d.path("var/lib/shoal/wireguard.key"), d.Now())
		}
		switch {
		case err == nil:
			said.Backends = append(said.Backends, b)
		case b == podroute.WireGuard && len(wanted) > 1:
			notes = fmt.Sprintf("wireguard can't be used on this host (%v): vxlan, which encrypts nothing, takes its place", err)
		default:
			notes = strings.TrimPrefix(fmt.Sprintf("%s; %s can't be used on this host: %v", notes, b, err), "; ")
		}
	}
	if slices.Contains(said.Backends, podroute.WireGuard) {
		said.WireGuardKey, said.WireGuardPort = key.PublicKey().String(), uint16(d.Config.Network.WireGuardPort)
	}
	return said, key, notes
}

// fleetWanted says, from any goroutine, whether there are to be other hosts.
func (d *Daemon) fleetWanted() bool {
	return d.fleet.gossip.Load() != nil || d.fleet.problem.Load() != nil || d.fleet.wantedAtStart
}

// underlay are this host's addresses for others: the one that gossip has, and
// one of the other family.
func (d *Daemon) underlay() []netip.Addr {
	first := d.Config.Cluster.AdvertiseAddr
	if b := d.Config.Cluster.BindAddr; !first.IsValid() && b.IsValid() && !b.IsUnspecified() {
		first = b
	}
	if !first.IsValid() {
		var err error
		if first, err = gossip.Routed(); err != nil {
			return nil
		}
	}
	list := []netip.Addr{first.Unmap()}
	for _, text := range d.host.addresses() {
		if a, err := netip.ParseAddr(text); err == nil && a.Is4() != list[0].Is4() {
			return append(list, a)
		}
	}
	return list
}

// underlayMTU is that of the device to the others; 1500 where none is known.
func (d *Daemon) underlayMTU(said networkSaid) int {
	mtu := 0
	if len(said.Addresses) > 0 {
		mtu = d.host.ways.router.DeviceMTU(said.Addresses[0])
	}
	if mtu <= 0 {
		return 1500
	}
	return mtu
}

// sitesOf are the other nodes with the ranges that count as theirs.
func sitesOf(others []networkSaid, own []podcidr.Claim) (list []podroute.Site) {
	all := append(claimsOf(others), own...)
	for _, o := range others {
		s := o.Site
		s.CIDRs = nil
		for _, c := range claimsOf([]networkSaid{o}) {
			if _, loses := podcidr.Loses(c, all); !loses {
				s.CIDRs = append(s.CIDRs, c.CIDR)
			}
		}
		list = append(list, s)
	}
	return list
}

// disagreements are the nodes whose cluster is cut otherwise.
func disagreements(own networkSaid, others []networkSaid) (problems []string) {
	for _, o := range others {
		if len(o.Spaces) > 0 && !slices.Equal(o.Spaces, own.Spaces) {
			problems = append(problems, fmt.Sprintf("node %s has %s, this host %s: set network.cluster_cidrs and the node masks alike on all hosts",
				o.Node, strings.Join(o.Spaces, " and "), strings.Join(own.Spaces, " and ")))
		}
	}
	return problems
}

// networkAnnotation is what the node's object says of its network, "" for nothing.
func (d *Daemon) networkAnnotation() string {
	_, said := d.host.ways.state()
	if len(said.Claims) == 0 {
		return ""
	}
	text, err := json.Marshal(said)
	if err != nil {
		return ""
	}
	return string(text)
}
