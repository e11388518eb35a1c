package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/gossip/memnet"
	"github.com/shoal-project/shoal/manifests"
)

// samples are durations that were measured.
type samples []time.Duration

// at is the value that this part of the samples does not exceed (nearest rank).
func (s samples) at(part float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

func (s samples) String() string {
	return fmt.Sprintf("p50 %s, p99 %s, most %s (%d)", s.at(.5).Round(time.Millisecond), s.at(.99).Round(time.Millisecond), s.at(1).Round(time.Millisecond), len(s))
}

// event is how long a bare Serf user event of this size takes to each member, in
// a fleet with nothing but gossip on the same network: what news is measured by.
func event(f *fleet, members, size, times int) (samples, error) {
	var all []*gossip.Gossip
	defer func() {
		end(all)
		time.Sleep(2 * time.Minute)
	}()
	for i := range members {
		g, err := f.member(i, map[string]string{"p": "7947", "r": "1"})
		if err != nil {
			return nil, err
		}
		all = append(all, g)
		time.Sleep(time.Second/time.Duration(members) + time.Microsecond)
	}
	sees := func() bool {
		return !slices.ContainsFunc(all, func(g *gossip.Gossip) bool { return len(g.Members()) < len(all) })
	}
	if _, err := until("members see each other", 10*time.Minute, sees); err != nil {
		return nil, err
	}
	time.Sleep(time.Minute) // membership gossip goes first
	var took samples
	for i := range times {
		from := all[(i*7+3)%len(all)]
		begun := time.Now()
		var mu sync.Mutex
		var heard sync.WaitGroup
		stop := make(chan struct{})
		for _, g := range all {
			if g == from {
				continue
			}
			heard.Go(func() {
				select {
				case <-g.News():
				case <-stop: // Serf promises nothing: it counts as what came last
				}
				mu.Lock()
				took = append(took, time.Since(begun))
				mu.Unlock()
			})
		}
		if err := from.Send("sim", make([]byte, size)); err != nil {
			return nil, err
		}
		time.AfterFunc(30*time.Second, func() { close(stop) })
		heard.Wait()
		time.Sleep(10 * time.Second)
		for _, g := range all {
			select {
			case <-g.News(): // the sender's own
			default:
			}
		}
	}
	return took, nil
}

// converge has new manifests appear on some nodes, and is how long each took to
// be in force on each other node.
func converge(f *fleet, times int) (samples, error) {
	var took samples
	for i := range times {
		from := f.nodes[(i*7+3)%len(f.nodes)]
		name := fmt.Sprintf("news%d", i)
		wait := f.when(manifests.Key{Kind: "ConfigMap", Namespace: "sim", Name: name}, func(any) bool { return true })
		text := fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {namespace: sim, name: %s}, data: {a: some configuration of a program}}\n", name)
		if err := f.write(from, name+".yaml", text); err != nil {
			return nil, err
		}
		for j, d := range wait() {
			if f.up()[j] != from {
				took = append(took, d)
			}
		}
		time.Sleep(20*time.Second + 137*time.Millisecond)
	}
	return took, nil
}

// bound is how long it takes from a new manifest of one pod until another host
// begins to run it. Of those that ran on the host of the file nothing is said.
func bound(f *fleet, times int) (samples, error) {
	var took samples
	for i := range times {
		from := f.nodes[(i*5+1)%len(f.nodes)]
		name := fmt.Sprintf("one%d", i)
		runs := make(chan *node, 1)
		f.tell(func(n *node, p *v1.Pod) {
			if p.Name == name {
				runs <- n
			}
		})
		begun := time.Now()
		if err := f.write(from, name+".yaml", podText(name)); err != nil {
			return nil, err
		}
		select {
		case on := <-runs:
			if on != from {
				took = append(took, time.Since(begun))
			}
		case <-time.After(time.Minute):
			return took, fmt.Errorf("pod %s runs nowhere: %w", name, errLate)
		}
		f.tell(nobody)
		time.Sleep(5*time.Second + 137*time.Millisecond)
	}
	return took, nil
}

func podText(name string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {namespace: sim, name: %s, labels: {of: one}}, "+
		"spec: {containers: [{name: c, image: registry.example/team/program:1.2.3, resources: {requests: {cpu: 10m, memory: 16Mi}}}]}}\n", name)
}

func deploymentText(name string, replicas int) string {
	return fmt.Sprintf("{apiVersion: apps/v1, kind: Deployment, metadata: {namespace: sim, name: %s}, spec: {replicas: %d, selector: {matchLabels: {of: %[1]s}}, "+
		"template: {metadata: {labels: {of: %[1]s}}, spec: {containers: [{name: c, image: registry.example/team/program:1.2.3, resources: {requests: {cpu: 10m, memory: 16Mi}}}]}}}}\n", name, replicas)
}

// traffic is what the nodes sent, each.
type traffic struct {
	gossip, peers []memnet.Traffic
}

func (f *fleet) traffic() (t traffic) {
	for i := range len(f.nodes) + len(f.plain) {
		t.gossip = append(t.gossip, f.net.Traffic(netip.AddrPortFrom(address(i), gossip.DefaultPort)))
	}
	for _, n := range f.nodes {
		t.peers = append(t.peers, f.net.Traffic(netip.AddrPortFrom(n.at, peerPort)))
	}
	return t
}

// rest is what a node sends while nothing happens, in bytes a second: the mean of
// all members' gossip and of all whole nodes' streams over the time, without headers and with those of IPv4, UDP and TCP.
type rest struct {
	Gossip, Peers, Headers float64
}

// headers is what IPv4 and UDP add to a packet; TCP with its timestamps, and the
// acknowledgement that comes back, add about four times as much.
const headersUDP, headersTCP = 28, 52 + 52

func atRest(f *fleet, how time.Duration) (r rest) {
	before := f.traffic()
	time.Sleep(how)
	after := f.traffic()
	per := how.Seconds() * float64(len(after.gossip))
	for i := range after.gossip {
		r.Gossip += float64(after.gossip[i].Bytes-before.gossip[i].Bytes) / per
		r.Headers += headersUDP * float64(after.gossip[i].Packets-before.gossip[i].Packets) / per
	}
	per = how.Seconds() * float64(len(after.peers))
	for i := range after.peers {
		r.Peers += float64(after.peers[i].Bytes-before.peers[i].Bytes) / per
		r.Headers += headersTCP * float64(after.peers[i].Packets-before.peers[i].Packets) / per
	}
	return r
}

func (r rest) String() string {
	return fmt.Sprintf("gossip %.0f + streams %.0f = %.0f B/s a node; with headers %.0f", r.Gossip, r.Peers, r.Gossip+r.Peers, r.Gossip+r.Peers+r.Headers)
}

// deployments is over how many the pods are divided that are placed.
const deployments = 10

// place has deployments come to as many nodes at once, and is how long after that
// each of their pods began to run.
func place(f *fleet, pods int) (samples, error) {
	var mu sync.Mutex
	var took samples
	all := make(chan struct{})
	begun := time.Now()
	f.tell(func(*node, *v1.Pod) {
		mu.Lock()
		defer mu.Unlock()
		if took = append(took, time.Since(begun)); len(took) == pods {
			close(all)
		}
	})
	defer f.tell(nobody)
	for i := range deployments {
		name := fmt.Sprintf("many%d", i)
		replicas := pods/deployments + min(1, max(0, pods%deployments-i))
		if err := f.write(f.nodes[i%len(f.nodes)], name+".yaml", deploymentText(name, replicas)); err != nil {
			return nil, err
		}
	}
	var err error
	select {
	case <-all:
	case <-time.After(10 * time.Minute):
		err = errLate
	}
	mu.Lock()
	defer mu.Unlock()
	if err != nil {
		return took, fmt.Errorf("%d of %d pods run: %w", len(took), pods, err)
	}
	return took, nil
}

// busiest is the node that runs the most of these pods, and how many. (Small ones
// need not be on all.)
func (f *fleet) busiest(pods map[types.UID]string) (most *node, runs int) {
	count := make(map[string]int)
	for _, on := range pods {
		count[on]++
	}
	most = slices.MaxFunc(f.nodes, func(a, b *node) int { return count[a.name] - count[b.name] })
	return most, count[most.name]
}

// failover is how long it takes from a host's loss of power until all of its pods
// of a deployment run elsewhere. Hosts with the most of them are lost, and come
// back, one after the other.
func failover(f *fleet, label string, times int) (samples, error) {
	var took samples
	for range times {
		before := f.podsOf(label)
		n, lost := f.busiest(before)
		if lost == 0 {
			return took, fmt.Errorf("no host runs a pod of %s", label)
		}
		again := make(chan struct{}, len(before))
		f.tell(func(_ *node, p *v1.Pod) {
			if p.Labels["of"] == label {
				again <- struct{}{}
			}
		})
		begun := time.Now()
		f.net.PowerOff(n.at) // what it does from here on nobody sees
		patience := time.After(2 * time.Minute)
		for range lost {
			select {
			case <-again:
			case <-patience:
				return took, fmt.Errorf("pods of %s do not run elsewhere: %w", n.name, errLate)
			}
		}
		took = append(took, time.Since(begun))
		f.tell(nobody)
		n.Stop()
		n.Hostless = nil
		time.Sleep(30 * time.Second)
		f.net.PowerOn(n.at)
		if err := f.start(n, nil); err != nil {
			return took, err
		}
		if _, err := until(n.name+" is back", 5*time.Minute, f.one); err != nil {
			return took, err
		}
		time.Sleep(30 * time.Second)
	}
	return took, nil
}

// trouble is what came of something that must move no pod.
type trouble struct {
	Failed int // how often a member was taken for lost by a node
	Moved  int // pods that run elsewhere than before, or anew
}

func (t trouble) String() string {
	return fmt.Sprintf("%d times a node took another one for lost; %d pods moved", t.Failed, t.Moved)
}

// suffer has something happen and counts what should not follow from it.
func suffer(f *fleet, happens func()) (t trouble, err error) {
	before := f.podsOf("")
	stop := make(chan struct{})
	var watching sync.WaitGroup
	var mu sync.Mutex
	for _, n := range f.up() {
		g := n.Gossip()
		if g == nil {
			return t, errors.New("a node is no member")
		}
		watching.Go(func() {
			failed := make(map[string]bool)
			for {
				for _, m := range g.Members() {
					was := failed[m.Name]
					if failed[m.Name] = m.Status != gossip.Alive; failed[m.Name] && !was {
						mu.Lock()
						t.Failed++
						mu.Unlock()
					}
				}
				select {
				case <-time.After(time.Second):
				case <-stop:
					return
				}
			}
		})
	}
	happens()
	close(stop)
	watching.Wait()
	after := f.podsOf("")
	for uid, on := range after {
		if before[uid] != on {
			t.Moved++
		}
	}
	for uid := range before {
		if _, still := after[uid]; !still {
			t.Moved++
		}
	}
	return t, nil
}
