package placement

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"golang.org/x/tools/txtar"
	"os"
)

var update = flag.Bool("update", false, "write what comes out into the stories")

// A story is a cluster and pods that are placed on it one after another; its
// outcomes are in the file.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 15 {
		t.Fatalf("found %d stories, err %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, a)
			for i := range a.Files {
				if a.Files[i].Name != "outcome" {
					continue
				}
				if want := string(a.Files[i].Data); got != want && !*update {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
				a.Files[i].Data = []byte(got)
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func tell(t *testing.T, a *txtar.Archive) string {
	t.Helper()
	var nodes []*v1.Node
	var pods, todo []*v1.Pod
	var spaces []*v1.Namespace
	var o Options
	for _, f := range a.Files {
		switch f.Name {
		case "nodes.yaml":
			nodes = objects[v1.Node](t, f.Data)
		case "pods.yaml":
			pods = objects[v1.Pod](t, f.Data)
		case "place.yaml":
			todo = objects[v1.Pod](t, f.Data)
		case "budgets.yaml":
			o.Budgets = objects[policy.PodDisruptionBudget](t, f.Data)
		case "namespaces.yaml":
			spaces = objects[v1.Namespace](t, f.Data)
		case "options":
			if strings.Contains(string(f.Data), "MostAllocated") {
				o.Strategy = MostAllocated
			}
			if _, set, ok := strings.Cut(strings.TrimSpace(string(f.Data)), "siblings "); ok {
				sel, err := labels.Parse(set)
				if err != nil {
					t.Fatal(err)
				}
				o.Siblings = sel
			}
		}
	}
	for _, n := range nodes { // what a story says nothing of is not what it is about
		if n.Status.Allocatable == nil {
			n.Status.Allocatable = v1.ResourceList{}
		}
		for name, amount := range map[v1.ResourceName]string{"cpu": "8", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi"} {
			if _, said := n.Status.Allocatable[name]; !said {
				n.Status.Allocatable[name] = quantity(amount)
			}
		}
	}
	namespaces := make(map[string]map[string]string)
	for _, ns := range spaces {
		namespaces[ns.Name] = ns.Labels
	}
	for _, list := range [][]*v1.Pod{pods, todo} {
		for _, p := range list {
			if p.Namespace == "" {
				p.Namespace = "default"
			}
			p.UID = uid(p.Namespace + "/" + p.Name)
		}
	}
	for _, b := range o.Budgets {
		b.Namespace = or(b.Namespace, "default")
	}
	c := New(nodes, pods, namespaces)
	for _, p := range todo {
		c.Nominate(p, p.Status.NominatedNodeName)
	}
	Sort(todo)
	var b strings.Builder
	for _, p := range todo {
		out := c.Place(p, o)
		fmt.Fprintf(&b, "%s -> %s\n", p.Name, or(out.Node, "nowhere: "+out.Message()))
		for _, line := range out.Lines() {
			fmt.Fprintf(&b, "  %s\n", line)
		}
		if out.Node != "" {
			p.Spec.NodeName = out.Node
			c.Add(p)
			continue
		}
		c.Follow(p, out)
		if out.Preemption != nil {
			for _, v := range out.Preemption.Victims {
				c.Remove(v)
				c.Add(going(v))
			}
		}
	}
	return b.String()
}

// going is a pod that is deleted to make room.
func going(p *v1.Pod) *v1.Pod {
	p = p.DeepCopy()
	p.DeletionTimestamp = &metav1.Time{}
	p.Status.Conditions = []v1.PodCondition{{Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: v1.PodReasonPreemptionByScheduler}}
	return p
}

func objects[T any](t *testing.T, data []byte) (list []*T) {
	t.Helper()
	for doc := range strings.SplitSeq(string(data), "\n---\n") {
		one := new(T)
		if err := yaml.UnmarshalStrict([]byte(doc), one); err != nil {
			t.Fatalf("%v in %s", err, doc)
		}
		list = append(list, one)
	}
	return list
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
