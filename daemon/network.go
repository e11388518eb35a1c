package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/shoal-project/shoal/proxy/podnet"
)

// network is the pod network, or why there is none yet.
type network struct {
	opened chan struct{} // closed when there is one

	mu    sync.Mutex
	is    *podnet.Network
	err   error     // why it could not be opened, while it is not
	since time.Time // of that, or of its being there
}

func newNetwork() *network { return &network{opened: make(chan struct{})} }

// now is the network, nil while there is none.
func (n *network) now() *podnet.Network {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.is
}

// state is why there is no network, nil when there is one, and since when.
func (n *network) state() (err error, since time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err, n.since
}

func (n *network) failed(err error, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil {
		n.since = at
	}
	n.err = err
}

func (n *network) found(is *podnet.Network, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.is, n.err, n.since = is, nil, at
	close(n.opened)
}

// openNetwork opens the pod network as it is configured.
func (d *Daemon) openNetwork() (*podnet.Network, error) {
	own, err := d.openWays()
	if err != nil {
		return nil, err
	}
	claims, problems, err := d.firstClaims(own)
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		d.Log.Error("the pod network is not as configured", "reason", p)
	}
	n := d.Config.Network
	network, err := podnet.Open(podnet.Config{
		Bridge: n.Bridge, PodCIDRs: cidrsOf(claims), NonMasquerade: n.NonMasqueradeCIDRs, Services: n.ServiceCIDRs, MTU: n.MTU, Dir: d.path("run/shoal/net"),
		LinkLocal: n.MasqueradeLinkLocal, Reach: podnet.Reach{Cluster: n.ClusterCIDRs},
	}, d.Log)
	if err == nil {
		d.host.ways.claimed(claims)
		d.host.ways.say(networkSaid{Claims: written(claims), Spaces: spacesText(n.Spaces())}, "", problems, d.Now())
	}
	return network, err
}

// networkAgain is how long to wait before the pod network is tried again after
// so many failures: what stands in its way (a module that is not loaded, a
// bridge of another program) may go at any time, and trying costs little.
func networkAgain(tries int) time.Duration {
	return min(time.Second<<min(tries-1, 10), time.Minute)
}

// awaitNetwork tries a pod network that could not be opened again until it can
// be, and has the pods that wait for it go on.
func (d *Daemon) awaitNetwork(ctx context.Context) {
	err, _ := d.host.network.state()
	for tries := 1; err != nil; tries++ {
		d.events.Warning(d.nodeReference(), "PodNetworkFailed", "No pod can run but those with hostNetwork: %v", err)
		select {
		case <-time.After(networkAgain(tries)):
		case <-ctx.Done():
			return
		}
		var n *podnet.Network
		if n, err = d.openNetwork(); err != nil {
			d.host.network.failed(err, d.Now())
			_ = d.do(ctx, d.publishNode) // fails only when the daemon ends
			continue
		}
		if err := d.agent.UseNetwork(ctx, n); err != nil {
			d.Log.Error("can't clean up the pod network", "err", err)
		}
		d.host.network.found(n, d.Now())
		d.events.Normal(d.nodeReference(), "PodNetworkReady", "The pod network is there: pods that waited for it go on")
		_ = d.do(ctx, d.publishNode)
	}
}
