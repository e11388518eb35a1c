package daemon

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/agent"
	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

const (
	classText = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: slow}\nhandler: crun\noverhead: {podFixed: {cpu: 10m}}\n"
	slowPod   = "apiVersion: v1\nkind: Pod\nmetadata: {namespace: default, name: p}\nspec: {nodeName: elsewhere, runtimeClassName: slow, containers: [{name: c, image: i}]}\n"
)

// TestAPodWithoutItsRuntimeClassWaitsForIt: as a problem of its file, until the
// class is there. What was made with the class outlives it, and edits of it are
// none of the class's business.
func TestAPodWithoutItsRuntimeClassWaitsForIt(t *testing.T) {
	f := openFiles(t, t.TempDir(), "n1")
	f.host = &host{d: f.Daemon, dirtyQoS: make(chan []*v1.Pod, 1)}
	f.declared, f.gone = make(map[manifests.Key]*v1.Pod), make(map[types.UID]bool)
	f.agent = agent.New(t.Context(), agent.Config{Logger: f.Log, Node: func() pod.Node { return pod.Node{Name: "n1"} }})
	key := manifests.Key{Kind: "Pod", Namespace: "default", Name: "p"}
	f.write("account.yaml", "apiVersion: v1\nkind: ServiceAccount\nmetadata: {namespace: default, name: default}\n")
	f.write("pod.yaml", slowPod)
	f.scan()
	problems := f.set.AllProblems()
	if want := `pod.yaml:1:1: pods "p" is forbidden: pod rejected: RuntimeClass "slow" not found`; len(problems) != 1 || !strings.HasSuffix(problems[0].Error(), want) {
		t.Errorf("got %v, want %s", problems, want)
	}
	if _, ok := f.view.Get(key); ok {
		t.Error("the pod is there")
	}
	another := decodeOne(t, strings.ReplaceAll(slowPod, "name: p}", "name: q}"))
	create := func() error {
		_, err := writer{f.Daemon}.write(another.Key, another.Value.(view.Object), api.WriteOptions{Create: true, DryRun: true})
		return err
	}
	if err := create(); !errors.IsForbidden(err) || err.Error() != `pods "q" is forbidden: pod rejected: RuntimeClass "slow" not found` {
		t.Errorf("through the API: %v", err)
	}

	f.write("zclass.yaml", classText)
	f.scan()
	o, ok := f.view.Get(key)
	if got := overheadOf(o); !ok || got != "10m" || len(f.set.AllProblems()) > 0 {
		t.Fatalf("with its class: %v, overhead %s, %v", ok, got, f.set.AllProblems())
	}
	if err := create(); err != nil {
		t.Errorf("with its class, through the API: %v", err)
	}

	uid := o.GetUID()
	f.remove("zclass.yaml")
	f.write("pod.yaml", strings.ReplaceAll(slowPod, "name: p}", "name: p, labels: {a: b}}"))
	for range 2 {
		f.scan()
		f.now = f.now.Add(settle)
	}
	o, ok = f.view.Get(key)
	if !ok || o.GetUID() != uid || o.GetLabels()["a"] != "b" || overheadOf(o) != "10m" {
		t.Errorf("after its class: %+v", o)
	}
	if f.runtimeClass("slow") != nil || len(f.set.AllProblems()) > 0 {
		t.Errorf("class %v, problems %v", f.runtimeClass("slow"), f.set.AllProblems())
	}
}

func overheadOf(o view.Object) string {
	p, _ := o.(*v1.Pod)
	if p == nil {
		return ""
	}
	return p.Spec.Overhead.Cpu().String()
}
