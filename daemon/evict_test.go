package daemon

import (
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/shoal-project/shoal/manifests"
)

// TestOneNodeGrantsTheDisruptionsOfABudget: it counts what it granted, whoever
// decides about the pods, until they are seen to go or two minutes are over; who
// takes over counts that too.
func TestOneNodeGrantsTheDisruptionsOfABudget(t *testing.T) {
	w := newWorld(t, 1, 3)
	budget := manifests.Key{Group: "policy", Kind: "PodDisruptionBudget", Namespace: "x", Name: "b"}
	w.nodes[0].declare(budget, `{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"namespace":"x","name":"b"},"spec":{"minAvailable":2,"selector":{"matchLabels":{"of":"bare"}}}}`)
	var keys []manifests.Key
	for i := range 3 {
		key := manifests.Key{Kind: "Pod", Namespace: "x", Name: fmt.Sprint("bare-", i)}
		keys = append(keys, key)
		w.nodes[i].declare(key, fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"x","name":%q,"labels":{"of":"bare"}},"spec":{"containers":[{"name":"c","image":"i"}]}}`, key.Name))
	}
	w.settle()
	w.check(map[string]int{"bare": 3})
	ask := func(s *simulated, i int) error {
		o, _ := s.view.Get(keys[i])
		return s.grant(eviction{Budget: budget.String(), Pod: keys[i].String(), UID: o.GetUID()})
	}
	first := w.node(w.nodes[0].stewardOf(budget))
	for _, s := range w.nodes {
		if err := ask(s, 0); s != first && !apierrors.IsServiceUnavailable(err) {
			t.Errorf("%s does not decide about the budget, and answers %v", s.name, err)
		}
	}
	if err := ask(first, 0); err != nil {
		t.Errorf("asked again for the same pod: %v", err)
	}
	if err := ask(first, 1); !apierrors.IsTooManyRequests(err) {
		t.Errorf("asked for another pod before the first is seen to go: %v", err)
	}

	for _, s := range w.nodes {
		if s != first {
			s.hear(first)
		}
	}
	first.crash(false)
	var next *simulated
	for _, s := range w.alive() {
		s.sees[first.name] = false
		s.look()
		s.reconcile()
		next = w.node(s.stewardOf(budget))
	}
	if err := ask(next, 1); !apierrors.IsTooManyRequests(err) {
		t.Errorf("who took over forgets what was granted: %v", err)
	}
	w.now = w.now.Add(3 * time.Minute)
	next.look()
	next.reconcile()
	if err := ask(next, 1); err != nil {
		t.Errorf("nothing came of what was granted, and still: %v", err)
	}
	if o, _ := next.view.Get(keys[1]); o.(*v1.Pod).DeletionTimestamp != nil {
		t.Error("to ask is not to evict")
	}
}
