package daemon

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	policy "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/manifests"
)

// listens gives a daemon its end of the streams between nodes, on loopback, and
// has its loop's calls done. The nodes find each other in towns.
func (s *simulated) listens(t *testing.T, towns map[string]string) (stop func()) {
	seed := sha256.Sum256([]byte(s.name))
	endpoint, err := peer.New(peer.Config{
		Node: s.name, Key: ed25519.NewKeyFromSeed(seed[:]), Keyring: cluster.NewKeyring(cluster.Key{1}), Pins: s.pins, Set: s.records,
		Cluster: s.clusterID, Find: func(node string) string { return towns[node] }, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	towns[s.name] = l.Addr().String()
	s.host.requests.Store(new(api.Server))
	s.host.writes.Store(s.newWrites())
	endpoint.Answer(http.HandlerFunc(s.answerPeers))
	s.fleet.news = newNews()
	s.fleet.peers.Store(endpoint)
	ctx, cancel := context.WithCancel(context.Background())
	served, looped := make(chan error, 1), make(chan struct{})
	go func() { served <- endpoint.Serve(ctx, l) }()
	go func() {
		defer close(looped)
		for {
			select {
			case f := <-s.calls:
				f()
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		<-looped
		endpoint.Close()
	}
}

// TestAnEvictionIsAskedForOnAnyNode: the node of the request asks the one that
// decides about the budget, and hands on what it says in its words.
func TestAnEvictionIsAskedForOnAnyNode(t *testing.T) {
	w := newWorld(t, 1, 2)
	budget := manifests.Key{Group: "policy", Kind: "PodDisruptionBudget", Namespace: "x", Name: "b"}
	w.nodes[0].declare(budget, `{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"namespace":"x","name":"b"},"spec":{"minAvailable":2,"selector":{"matchLabels":{"of":"bare"}}}}`)
	var keys []manifests.Key
	for i := range 3 {
		key := manifests.Key{Kind: "Pod", Namespace: "x", Name: fmt.Sprint("bare-", i)}
		keys = append(keys, key)
		w.nodes[i%2].declare(key, fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"x","name":%q,"labels":{"of":"bare"}},"spec":{"containers":[{"name":"c","image":"i"}]}}`, key.Name))
	}
	w.settle()
	w.check(map[string]int{"bare": 3})
	steward, other := w.nodes[0], w.nodes[1]
	if steward.stewardOf(budget) != steward.name {
		steward, other = other, steward
	}
	granted := func() (names string) {
		o, _ := steward.view.Get(budget)
		for name := range o.(*policy.PodDisruptionBudget).Status.DisruptedPods {
			names += name
		}
		return names
	}
	towns := make(map[string]string)
	stop := steward.listens(t, towns)
	defer other.listens(t, towns)()

	if err := other.mayEvict(t.Context(), keys[0], true); err != nil || granted() != "" {
		t.Errorf("tried without effect: %v, granted are %q", err, granted())
	}
	if err := other.mayEvict(t.Context(), keys[0], false); err != nil || granted() != "bare-0" {
		t.Errorf("the first: %v, granted are %q on the node that decides", err, granted())
	}
	err := other.mayEvict(t.Context(), keys[1], false)
	if !apierrors.IsTooManyRequests(err) || !apierrors.HasStatusCause(err, policy.DisruptionBudgetCause) || granted() != "bare-0" {
		t.Errorf("the second: %v, granted are %q", err, granted())
	}
	if here := steward.mayEvict(t.Context(), keys[1], false); err == nil || here == nil || here.Error() != err.Error() {
		t.Errorf("the node that decides says %v, through the other one it is %v", here, err)
	}
	o, _ := steward.view.Get(keys[0])
	err = steward.askToEvict(t.Context(), other.name, eviction{Budget: budget.String(), Pod: keys[0].String(), UID: o.GetUID()})
	if !apierrors.IsServiceUnavailable(err) {
		t.Errorf("one that does not decide is asked: %v", err)
	}

	stop()
	err = other.mayEvict(t.Context(), keys[0], false)
	if !apierrors.IsServiceUnavailable(err) || !strings.Contains(err.Error(), "can't be reached") {
		t.Errorf("the node that decides is gone: %v", err)
	}
}
