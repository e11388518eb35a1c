package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/daemon/remote"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// others is the way to the other nodes' API, while this host is one of several.
type others struct{ d *Daemon }

// RoundTrip implements api.Nodes and remote.Nodes.
func (o others) RoundTrip(node string, r *http.Request) (*http.Response, error) {
	endpoint := o.d.fleet.peers.Load()
	switch why := o.d.fleet.problem.Load(); {
	case endpoint != nil:
		return endpoint.RoundTrip(node, r)
	case why != nil:
		return nil, fmt.Errorf("%w: %s", errByItself, *why)
	}
	return nil, errByItself
}

var errByItself = errors.New("this node is not with the others of its cluster")

// Others implements api.Nodes.
func (o others) Others() []string {
	g := o.d.fleet.gossip.Load()
	if g == nil {
		return nil
	}
	var names []string
	for _, p := range peersOf(g, o.d.Config.Node) {
		names = append(names, p.Node)
	}
	return names
}

// answerPeers answers what other nodes ask of this one's API.
func (d *Daemon) answerPeers(w http.ResponseWriter, r *http.Request) {
	server, writes := d.host.requests.Load(), d.host.writes.Load()
	from := peer.Calling(r.Context())
	switch {
	case server == nil || writes == nil:
		http.Error(w, fmt.Sprintf("node %s is starting: try again", d.Config.Node), http.StatusServiceUnavailable)
	case r.URL.Path == keysPath:
		d.serveKeys(from, w, r)
	case r.URL.Path == evictionsPath:
		d.answerEviction(w, r)
	case r.URL.Path == remote.Path:
		writes.Serve(from, w, r)
	default:
		server.ServeNode(from, w, r)
	}
}

// newWrites has the API's writes done where they are decided.
func (d *Daemon) newWrites() *remote.Writer {
	return &remote.Writer{Config: remote.Config{
		Node: d.Config.Node, Local: writer{d}, View: d.view, Nodes: others{d}, Home: d.homeOf, Unsent: unsent, Log: d.Log,
	}}
}

// unsent says of an error that a node has not seen the request.
func unsent(err error) bool {
	var dial *net.OpError
	return errors.Is(err, errByItself) || errors.Is(err, peer.ErrUnknown) || errors.Is(err, peer.ErrRefused) || errors.As(err, &dial) && dial.Op == "dial"
}

// homeOf is the node that carries out what clients make of an object: the one
// that decides about it, but of a node itself, and of a pod's status, the one
// that says it.
func (d *Daemon) homeOf(ctx context.Context, verb remote.Verb, key manifests.Key) (node string, err error) {
	_, exists := d.view.Get(key)
	switch {
	case key.GroupKind() == workload.KindNode && exists && verb == remote.Apply:
		err := d.do(ctx, func() { node = d.nodeHome(key) })
		return node, err
	case key.Kind == "Event" || key.GroupKind() == workload.KindNode: // which any node forgets
		return d.Config.Node, nil
	case verb == remote.ApplyStatus:
		if o, ok := d.view.Get(key); ok && o.(*v1.Pod).Spec.NodeName != "" {
			return o.(*v1.Pod).Spec.NodeName, nil
		}
		return d.Config.Node, nil
	}
	if err := d.do(ctx, func() { node = d.stewardOf(key) }); err != nil {
		return "", err
	}
	if node == "" {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no node decides about %s yet: this one is still hearing from its peers; try again", key))
	}
	return node, nil
}

// copying is how long a host may take to take a copy of what was written.
const copying = 2 * time.Second

// copyOut has another host take a copy of what this node's record says since a
// sequence number, before the write is answered: the one that was asked for the
// write and waits to see it, else whichever takes it first of two. It is true as
// well where there is nobody.
func (d *Daemon) copyOut(ctx context.Context, since uint64) bool {
	endpoint, g := d.fleet.peers.Load(), d.fleet.gossip.Load()
	news, is := d.records.News(since)
	if endpoint == nil || g == nil || !is || len(news.Delta.Entries) == 0 {
		return true
	}
	peers := peersOf(g, d.Config.Node)
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	if asker := remote.Asker(ctx); asker != "" {
		peers = slices.DeleteFunc(peers, func(p peer.Peer) bool { return p.Node != asker })
	}
	peers = peers[:min(len(peers), 2)]
	if len(peers) == 0 {
		return true
	}
	within, cancel := context.WithTimeout(ctx, copying)
	defer cancel()
	took := make(chan bool, len(peers))
	for _, p := range peers {
		go func() { took <- endpoint.Push(within, news.Delta, p) == nil }()
	}
	for range peers {
		if <-took {
			return true
		}
	}
	return false
}
