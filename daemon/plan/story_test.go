package plan

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/nodelife"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

var update = flag.Bool("update", false, "rewrite the expected outputs in testdata")

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// TestStories runs each testdata/*.txtar: nodes, objects that people declare, as
// they have come to rest, and plans.
//
//	node NAME cpu=N [LABEL=VALUE]...   a node that is alive and ready
//	apply SECTION                      declare objects; pods are placed, and ready
//	write SECTION                      the same through the API
//	unready PREFIX                     the pods of that prefix are not ready
//	gone NODE                          a node has been out of sight for long
//	lose|drain NODE...                 the plan
//	each                               the loss of each node, at a glance
func TestStories(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	if len(files) == 0 {
		t.Fatal("no stories")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sections := make(map[string]string)
			for _, f := range archive.Files {
				sections[f.Name] = string(f.Data)
			}
			s := newStory()
			for line := range strings.Lines(sections["script"]) {
				if words := strings.Fields(line); len(words) > 0 {
					s.step(t, sections, words)
				}
			}
			got := s.out.String()
			if *update {
				i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "output" })
				if i < 0 {
					i, archive.Files = len(archive.Files), append(archive.Files, txtar.File{Name: "output"})
				}
				archive.Files[i].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if want := sections["output"]; got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

type story struct {
	World
	out strings.Builder
}

func newStory() *story {
	s := &story{World: World{
		Now: start, Objects: make(map[schema.GroupKind][]view.Object), Config: nodelife.Defaults(), Suspicion: 4 * time.Second,
		Declared: make(map[manifests.Key]*v1.Pod), Filed: make(map[manifests.Key]bool),
	}}
	s.add(&v1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	s.add(&v1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}})
	return s
}

func (s *story) add(o view.Object) {
	kind := o.GetObjectKind().GroupVersionKind().GroupKind()
	if o.GetUID() == "" {
		o.SetUID(types.UID(kind.String() + o.GetNamespace() + o.GetName()))
		o.SetCreationTimestamp(metav1.NewTime(start.Add(-time.Hour)))
		o.SetGeneration(1)
	}
	s.Objects[kind] = append(s.Objects[kind], o)
}

func (s *story) step(t *testing.T, sections map[string]string, words []string) {
	t.Helper()
	var out Outcome
	var err error
	switch words[0] {
	case "node":
		s.node(words[1], words[2:])
		return
	case "apply", "write":
		s.apply(t, sections[words[1]], words[0] == "apply")
		return
	case "unready":
		for _, o := range s.Objects[workload.KindPod] {
			if p := o.(*v1.Pod); strings.HasPrefix(p.Name, words[1]) {
				nodelife.NotReady(&p.Status, start)
			}
		}
		return
	case "gone":
		i := slices.IndexFunc(s.Members, func(m nodelife.Node) bool { return m.Name == words[1] })
		s.Members[i].State, s.Members[i].Since = nodelife.Failed, start.Add(-time.Hour)
		for _, o := range s.Objects[workload.KindPod] {
			if p := o.(*v1.Pod); p.Spec.NodeName == words[1] {
				nodelife.NotReady(&p.Status, start)
			}
		}
		return
	case "lose":
		out, err = LoseNodes(s.World, words[1:]...)
	case "drain":
		out, err = DrainNodes(s.World, words[1:]...)
	case "each":
		list, err := LoseEach(context.Background(), s.World)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&s.out, "> each\n%s\n", Glance(list))
		return
	default:
		t.Fatalf("no step %q", words)
	}
	text := out.String()
	if err != nil {
		text = "error: " + err.Error() + "\n"
	}
	fmt.Fprintf(&s.out, "> %s\n%s\n", strings.Join(words, " "), text)
}

func (s *story) node(name string, words []string) {
	n := &v1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}}
	n.Name, n.Labels = name, map[string]string{v1.LabelHostname: name}
	n.Status.Allocatable = v1.ResourceList{v1.ResourcePods: resource.MustParse("110"), v1.ResourceMemory: resource.MustParse("64Gi")}
	n.Status.Conditions = []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue, LastTransitionTime: metav1.NewTime(start.Add(-time.Hour))}}
	for _, w := range words {
		if key, value, _ := strings.Cut(w, "="); key == "cpu" {
			n.Status.Allocatable[v1.ResourceCPU] = resource.MustParse(value)
		} else {
			n.Labels[key] = value
		}
	}
	s.add(n)
	s.Members = append(s.Members, nodelife.Node{Name: name, State: nodelife.Alive, Since: start.Add(-time.Hour), Object: n})
}

// apply declares objects, and has the world come to rest with them.
func (s *story) apply(t testing.TB, text string, filed bool) {
	t.Helper()
	objects, problems := manifests.Decode("f", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var keys []manifests.Key
	for _, o := range objects {
		if p, is := o.Value.(*v1.Pod); is {
			s.Declared[o.Key], s.Filed[o.Key] = p, filed
		} else {
			s.add(o.Value.(view.Object))
		}
		keys = append(keys, o.Key)
	}
	w := newWorld(s.World)
	w.Now = start.Add(-time.Hour)
	for _, key := range keys {
		if p := s.Declared[key]; p != nil {
			in := workload.Input{Declared: map[manifests.Key]*v1.Pod{key: p}, Now: w.Now, UID: w.uid, Complete: w.complete}
			for _, d := range workload.DeclaredPods(in) {
				if d.Pod.Spec.NodeName != "" {
					d.Pod = w.started(d.Pod, d.Pod.Spec.NodeName)
				}
				w.put(key, d.Pod)
			}
		} else {
			o, _ := w.Get(key)
			w.put(key, o)
		}
	}
	w.settle()
	for kind := range w.kinds {
		s.Objects[kind], _ = w.List(kind, "")
	}
}
