package plan

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/workload"
)

// town is a story with random nodes and workloads, come to rest.
func town(t *testing.T, random *rand.Rand) *story {
	s := newStory()
	for i := range 2 + random.IntN(5) {
		s.node(fmt.Sprintf("n%d", i+1), []string{fmt.Sprintf("cpu=%d", 1+random.IntN(4)), fmt.Sprintf("disk=%d", random.IntN(2))})
	}
	for i := range 1 + random.IntN(4) {
		name := fmt.Sprintf("w%d", i)
		extra := []string{"", "nodeSelector: {disk: '1'}", "tolerations: [{operator: Exists}]", "nodeSelector: {kubernetes.io/hostname: n2}"}[random.IntN(4)]
		s.apply(t, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: default}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      %[4]s
      containers: [{name: main, image: x, resources: {requests: {cpu: %[3]dm}}}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: %[1]s, namespace: default}
spec:
  maxUnavailable: %[5]d
  selector: {matchLabels: {app: %[1]s}}
`, name, 1+random.IntN(5), 100*(1+random.IntN(9)), extra, random.IntN(3)), true)
	}
	if random.IntN(2) == 0 {
		s.apply(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: bare, namespace: default}\nspec: {containers: [{name: main, image: x}]}\n", random.IntN(2) == 0)
	}
	return s
}

// TestLaws holds for any cluster: a plan changes nothing that it is given, and is
// the same each time; every pod of the hosts has one fate, and no other pod has
// one unless it makes room; nothing goes to a host that is lost or drained; and a
// budget is kept by a drain.
func TestLaws(t *testing.T) {
	for seed := range uint64(25) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := town(t, random)
		var nodes []string
		for _, m := range s.Members[:1+random.IntN(len(s.Members))] {
			nodes = append(nodes, m.Name)
		}
		before := copyOf(s.World)
		for _, plan := range []func(World, ...string) (Outcome, error){LoseNodes, DrainNodes} {
			out, err := plan(s.World, nodes...)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(copyOf(s.World), before) {
				t.Fatalf("seed %d: %s changed what it was given", seed, out.Action)
			}
			if again, _ := plan(s.World, nodes...); !reflect.DeepEqual(again, out) {
				t.Fatalf("seed %d: %s is another one the second time:\n%s\n%s", seed, out.Action, out, again)
			}
			checkFates(t, fmt.Sprintf("seed %d: %s %v", seed, out.Action, nodes), s, out, nodes)
		}
	}
}

func copyOf(w World) map[string]any {
	all := make(map[string]any)
	for kind, list := range w.Objects {
		for _, o := range list {
			all[kind.String()+o.GetNamespace()+o.GetName()] = o.DeepCopyObject()
		}
	}
	return all
}

func checkFates(t *testing.T, what string, s *story, out Outcome, nodes []string) {
	fates := make(map[string]string)
	for _, f := range out.Pods {
		if fates[f.Name] != "" {
			t.Errorf("%s: %s has two fates", what, f.Name)
		}
		fates[f.Name] = f.Fate
		if slices.Contains(nodes, f.To) != (f.Fate == Returns) {
			t.Errorf("%s: %s goes to %s", what, f.Name, f.To)
		}
		if !slices.Contains(nodes, f.Node) && !strings.HasPrefix(f.Why, "makes room") {
			t.Errorf("%s: %s of %s is spoken of", what, f.Name, f.Node)
		}
		if out.Frozen != "" && f.Fate == Moves {
			t.Errorf("%s: %s moves, and nobody is evicted", what, f.Name)
		}
	}
	for _, o := range s.Objects[workload.KindPod] {
		if p := o.(*v1.Pod); slices.Contains(nodes, p.Spec.NodeName) && fates[p.Name] == "" {
			t.Errorf("%s: nothing is said of %s", what, p.Name)
		}
	}
	for _, b := range out.Budgets {
		if out.Action == Drain && b.Least < min(b.Desired, b.Now) && !slices.ContainsFunc(out.Pods, func(f Pod) bool { return strings.HasPrefix(f.Why, "makes room") }) {
			t.Errorf("%s: budget %s wants %d and has %d at one time", what, b.Name, b.Desired, b.Least)
		}
	}
}
