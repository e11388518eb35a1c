package daemon

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// TestHostsThatMeetKeepWhatTheyRun: the same file on hosts that had not met makes
// an object with a UID on each, until they hear of each other. Pods of all of them
// are the object's then: the surplus goes, nothing is made anew, and at no moment
// do fewer run than are to.
func TestHostsThatMeetKeepWhatTheyRun(t *testing.T) {
	for seed := range fleetSeeds() {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t, seed, 2+int(seed%2))
			for _, s := range w.nodes {
				clear(s.sees)
				s.look()
				s.reconcile()
			}
			for i, s := range w.nodes {
				w.now = w.now.Add(time.Hour)
				s.declare(keyWeb, deployment(size(i), "i"))
				if i < 2 || seed%3 != 0 {
					s.declare(keyAgents, daemonSet)
				}
				for range 5 {
					w.round()
				}
			}
			most := size(1)
			made := make(map[types.UID]bool)
			for _, s := range w.nodes {
				for uid, p := range s.running {
					made[uid] = p.Labels["of"] == "web"
				}
			}
			if want := size(0) + most*(len(w.nodes)-1); len(slices.DeleteFunc(values(made), func(web bool) bool { return !web })) != want {
				t.Fatalf("want %d pods before they meet:\n%s", want, w)
			}

			for _, s := range w.nodes {
				for _, o := range w.nodes {
					s.sees[o.name] = true
				}
			}
			for range 8 {
				w.round()
				web := 0
				for _, s := range w.nodes {
					for uid, p := range s.running {
						of := p.Labels["of"]
						if _, is := made[uid]; !is && (of == "web" || s != w.nodes[len(w.nodes)-1]) {
							t.Errorf("%s was made when they met", p.Name)
						}
						if of == "web" {
							web++
						}
					}
				}
				if web < most {
					t.Fatalf("%d pods run:\n%s", web, w)
				}
			}
			w.settle()
			w.check(map[string]int{"web": most, "agents": len(w.nodes)})
			for _, owned := range []schema.GroupKind{podKind, workload.KindReplicaSet, workload.KindControllerRevision} {
				list, _ := w.nodes[0].view.List(owned, "")
				for _, o := range list {
					ref := metav1.GetControllerOf(o)
					owner, is := w.nodes[0].view.Get(manifests.Key{Group: "apps", Kind: ref.Kind, Namespace: "x", Name: ref.Name})
					if !is || owner.GetUID() != ref.UID {
						t.Errorf("the owner of %s, %s, is nobody", o.GetName(), ref)
					}
				}
			}
		})
	}
}

// size is how many pods the file on a host asks for: the later ones are edits.
func size(host int) int { return 2 + 3*min(host, 1) }

func values[K comparable, V any](m map[K]V) (list []V) {
	for _, v := range m {
		list = append(list, v)
	}
	return list
}

// TestAnObjectsFormerUIDsAreKnownOnAllHosts: also once its claims have followed
// the oldest, and after the host that had another has lost its store.
func TestAnObjectsFormerUIDsAreKnownOnAllHosts(t *testing.T) {
	h := openHosts(t, "n1", "n2")
	uid := make([]types.UID, len(h.nodes))
	for i, f := range h.nodes {
		f.now = h.nodes[0].now.Add(time.Duration(i) * time.Hour)
		f.write("a.yaml", configMap("x", "a", "v"))
		f.scan()
		o, _ := f.view.Get(configKey)
		uid[i] = o.GetUID()
	}
	check := func(when string, want ...types.UID) {
		t.Helper()
		for _, f := range h.nodes {
			o, _ := f.view.Get(configKey)
			if got := f.declarations.former[configKey]; o.GetUID() != uid[0] || !slices.Equal(got, want) {
				t.Errorf("%s: on %s it is %s, before %v; want %s, before %v", when, f.Config.Node, o.GetUID(), got, uid[0], want)
			}
		}
	}
	h.meet()
	check("they have met", uid[1])
	h.restart(1, func(*files) {})
	h.meet()
	check("restarted", uid[1])

	// With a new disk n2 makes it once more, before it takes its record back.
	var third types.UID
	n2 := h.nodes[1]
	n2.shut()
	if err := os.Remove(n2.store()); err != nil {
		t.Fatal(err)
	}
	n := h.open("n2", "others")
	n.now = n2.now.Add(time.Hour)
	h.nodes[1] = n
	n.look()
	if o, ok := n.view.Get(configKey); ok {
		third = o.GetUID()
	}
	h.hears(n, h.nodes[0])
	n.records.PublishFirst()
	n.takeIn()
	n.look()
	h.meet()
	check("with a new disk", uid[1], third)

	for _, f := range h.nodes {
		f.remove("a.yaml")
		f.look()
	}
	h.meet()
	for _, f := range h.nodes {
		if got := f.declarations.former; len(got) > 0 {
			t.Errorf("it is gone, and %s knows that it was %v", f.Config.Node, got)
		}
	}
}
