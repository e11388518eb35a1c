package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon"
	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/gossip/memnet"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// fleet is whole nodes in one process, in virtual time.
type fleet struct {
	ctx   context.Context
	net   *memnet.Network
	dir   string
	key   cluster.Key
	log   *slog.Logger
	nodes []*node
	plain []*gossip.Gossip // members that are nothing but that, after the nodes

	started atomic.Pointer[func(n *node, p *v1.Pod)] // told when a host begins to run a pod
}

// node is one of them, with what outlives its daemon.
type node struct {
	name string
	at   netip.Addr
	root string
	skew time.Duration
	disk *daemon.Memory
	*daemon.Hostless
}

const peerPort = 7947

// address is node i's: 10.0.0.0/8 has room for all.
func address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24+uint32(i)+1)))
}

// tell has f called when a host begins to run a pod, in place of another.
func (f *fleet) tell(of func(*node, *v1.Pod)) { f.started.Store(&of) }

func nobody(*node, *v1.Pod) {}

// newFleet makes nodes that do not run yet. Their files lie below dir.
func newFleet(ctx context.Context, dir string, nodes int, network *memnet.Network) (*fleet, error) {
	f := &fleet{ctx: ctx, net: network, dir: dir, key: cluster.NewKey(), log: slog.New(slog.DiscardHandler)}
	f.tell(nobody)
	for i := range nodes {
		n := &node{name: fmt.Sprintf("n%04d", i), at: address(i), root: filepath.Join(dir, fmt.Sprint(i)), disk: new(daemon.Memory)}
		if err := os.MkdirAll(filepath.Join(n.root, "etc/shoal/manifests"), 0o755); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Join(n.root, "var/lib/shoal"), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(n.root, "etc/shoal/cluster.key"), []byte(f.key.Text()+"\n"), 0o600); err != nil {
			return nil, err
		}
		f.nodes = append(f.nodes, n)
	}
	return f, nil
}

// config is a node's configuration: as on every host, but for its name and
// address.
func (f *fleet) config(n *node) (*config.Config, error) {
	var first []byte
	for i := range min(len(f.nodes), 3) {
		first = fmt.Appendf(first, "%q,", f.nodes[i].at.String())
	}
	text := fmt.Sprintf("node = %q\njoin = [%s]\n[cluster]\nadvertise = %q\n", n.name, first, n.at)
	return config.Parse("sim", []byte(text), n.name)
}

// start runs a node's daemon, on its disk, with what runs on its host.
func (f *fleet) start(n *node, found []*v1.Pod) error {
	c, err := f.config(n)
	if err != nil {
		return err
	}
	peers := netip.AddrPortFrom(n.at, peerPort)
	n.Hostless, err = daemon.StartHostless(f.ctx, daemon.HostlessOptions{
		Options: daemon.Options{
			Root: n.root, Config: c, Version: "sim", Log: f.log.With("at", n.name),
			Now: func() time.Time { return time.Now().Add(n.skew) },
			Wire: &daemon.Wire{
				Gossip: f.net.Node(netip.AddrPortFrom(n.at, gossip.DefaultPort)),
				Peers:  f.net.Listen(peers),
				Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
					return f.net.Dial(ctx, peers, address)
				},
			},
		},
		Disk: n.disk, Found: found, Started: func(p *v1.Pod) { (*f.started.Load())(n, p) },
		Allocatable: v1.ResourceList{
			v1.ResourceCPU: resource.MustParse("16"), v1.ResourceMemory: resource.MustParse("64Gi"), v1.ResourcePods: resource.MustParse("110"),
		},
	})
	return err
}

// boot starts all nodes. They do not tick in lock-step.
func (f *fleet) boot() error {
	for _, n := range f.nodes {
		if err := f.start(n, nil); err != nil {
			return fmt.Errorf("start %s: %w", n.name, err)
		}
		time.Sleep(time.Second/time.Duration(len(f.nodes)) + time.Microsecond)
	}
	return nil
}

// stop ends what runs, and then waits for what the libraries have set timers for.
func (f *fleet) stop() {
	for _, n := range f.nodes {
		if n.Hostless != nil {
			n.Stop()
			n.Hostless = nil
		}
	}
	end(f.plain)
	f.plain = nil
	time.Sleep(2 * time.Minute)
}

// end ends members that only gossip.
func end(list []*gossip.Gossip) {
	for _, g := range list {
		g.Shutdown()
	}
}

// bootPlain adds members that only gossip, as real Serf, so that a few whole nodes
// live in a large cluster. They have no records, and are nobody's peers.
func (f *fleet) bootPlain(count int) error {
	for i := range count {
		g, err := f.member(len(f.nodes)+i, nil)
		if err != nil {
			return err
		}
		f.plain = append(f.plain, g)
		time.Sleep(time.Second/time.Duration(count) + time.Microsecond)
	}
	return nil
}

// member starts member i, which only gossips.
func (f *fleet) member(i int, tags map[string]string) (*gossip.Gossip, error) {
	at := netip.AddrPortFrom(address(i), gossip.DefaultPort)
	// As long as a node's. Theirs is no cluster's id: whoever has one is admitted or not.
	all := map[string]string{"x": "01234567-89ab-cdef-0123-456789abcdef", "s": "1", "m": "mi8kpw0g", "v": "sim"}
	maps.Copy(all, tags)
	ring := cluster.NewKeyring(f.key)
	return gossip.Start(gossip.Config{
		Name: fmt.Sprintf("n%04d", i), Advertise: at, Keys: ring.Gossip(), Join: []string{address(0).String()}, Transport: f.net.Node(at), Log: f.log,
		Tags: all,
	})
}

// errLate says that something did not come about in time.
var errLate = errors.New("not in time")

// until waits in virtual time for what has to come, and says how long it took, to
// a hundredth of the patience.
func until(what string, patience time.Duration, is func() bool) (time.Duration, error) {
	for begun := time.Now(); ; time.Sleep(patience / 1000) {
		if is() {
			return time.Since(begun), nil
		}
		if time.Since(begun) > patience {
			return 0, fmt.Errorf("after %s: %s: %w", patience, what, errLate)
		}
	}
}

// up are the nodes that run.
func (f *fleet) up() (list []*node) {
	for _, n := range f.nodes {
		if n.Hostless != nil {
			list = append(list, n)
		}
	}
	return list
}

// one says whether all nodes that run see each other, and know all the same.
func (f *fleet) one() bool {
	up := f.up()
	for _, n := range up {
		g := n.Gossip()
		if g == nil || n.Digest() != up[0].Digest() {
			return false
		}
		alive := 0
		for _, m := range g.Members() {
			if m.Status == gossip.Alive {
				alive++
			}
		}
		if nodes, _ := n.View().List(workload.KindNode, ""); alive != len(up)+len(f.plain) || len(nodes) != len(f.nodes) {
			return false
		}
	}
	return true
}

// write puts a file into a node's manifests, as a person does.
func (f *fleet) write(n *node, name, text string) error {
	file := filepath.Join(n.root, "etc/shoal/manifests", name)
	if err := os.WriteFile(file+".tmp", []byte(text), 0o644); err != nil {
		return err
	}
	then := time.Now().Add(-time.Second) // the disk's clock is not the simulation's
	if err := os.Chtimes(file+".tmp", then, then); err != nil {
		return err
	}
	if err := os.Rename(file+".tmp", file); err != nil {
		return err
	}
	n.Rescan()
	return nil
}

func (f *fleet) remove(n *node, name string) error {
	err := os.Remove(filepath.Join(n.root, "etc/shoal/manifests", name))
	n.Rescan()
	return err
}

// podsOf are the pods that hosts run, by UID, of those with this label "of"; of
// all, if it is "".
func (f *fleet) podsOf(label string) map[types.UID]string {
	at := make(map[types.UID]string)
	for _, n := range f.up() {
		_ = n.Do(f.ctx, func() {
			for _, p := range n.Running() {
				if label == "" || p.Labels["of"] == label {
					at[p.UID] = n.name
				}
			}
		})
	}
	return at
}

// when has a channel per node closed when its view has an object, and says how
// long that took since now.
func (f *fleet) when(key manifests.Key, has func(o any) bool) func() []time.Duration {
	begun := time.Now()
	up := f.up()
	took := make([]time.Duration, len(up))
	done := make(chan struct{}, len(up))
	for i, n := range up {
		v := n.View()
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				changed := v.Changed()
				if o, ok := v.Get(key); ok && has(o) {
					took[i] = time.Since(begun)
					return
				}
				select {
				case <-changed:
				case <-f.ctx.Done():
					return
				}
			}
		}()
	}
	return func() []time.Duration {
		for range up {
			<-done
		}
		return took
	}
}
