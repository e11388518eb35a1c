package workload

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/shoal-project/shoal/manifests"
)

var (
	now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	web = manifests.Key{Kind: "Pod", Namespace: "default", Name: "web"}
)

const declared = `
metadata: {name: web, namespace: default, labels: {a: b}}
spec:
  terminationGracePeriodSeconds: 7
  containers:
  - name: app
    image: web:1
    command: [run]
    resources: {requests: {cpu: 100m}, limits: {cpu: 200m}}
`

func pod(t testing.TB, text string) *v1.Pod {
	t.Helper()
	p := &v1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(text), p); err != nil {
		t.Fatal(err)
	}
	manifests.Default(p)
	return p
}

func input(decided, declared *v1.Pod) Input {
	n := 0
	in := Input{
		Now: now, Gone: map[types.UID]bool{},
		Declared: map[manifests.Key]*v1.Pod{}, Decided: map[manifests.Key]*v1.Pod{},
		UID: func(manifests.Key) types.UID { n++; return types.UID(fmt.Sprint("new-", n)) },
	}
	if decided != nil {
		in.Decided[web] = decided
	}
	if declared != nil {
		in.Declared[web] = declared
	}
	return in
}

// created is the pod as it was decided when it was first declared.
func created(t testing.TB) *v1.Pod {
	return DeclaredPods(input(nil, pod(t, declared)))[0].Pod
}

func TestADeclaredPodIsCreatedWithoutANode(t *testing.T) {
	p := created(t)
	got := fmt.Sprint(p.UID, " ", p.Spec.NodeName, " ", p.Generation, " ", p.Status.Phase, " ", p.Status.QOSClass, " ", p.CreationTimestamp.UTC())
	if want := "new-1  1 Pending Burstable " + now.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWhatAnEditDoes(t *testing.T) {
	for _, test := range []struct{ name, old, new, want string }{
		{"nothing changed", "", "", ""},
		{"label", "{a: b}", "{a: c}", "update generation=1"},
		{"image", "web:1", "web:2", "update generation=2"},
		{"cpu limit", "cpu: 200m", "cpu: 300m", "update generation=2"},
		{"grace", "Seconds: 7", "Seconds: 8", "delete spec.terminationGracePeriodSeconds can't be changed in place"},
		{"command", "[run]", "[walk]", "delete spec.containers[0].command[0] can't be changed in place"},
		{"QoS class", "{requests: {cpu: 100m}, limits: {cpu: 200m}}", "{}", "delete the QoS class changes with the resources"},
		{"another resource", "limits: {cpu: 200m", "limits: {ephemeral-storage: 1Gi, cpu: 200m", "delete only cpu and memory can be changed in place"},
		{"second container", "  - name: app", "  - {name: more, image: x}\n  - name: app", "delete containers were added or removed"},
		{"identity", "labels: {a: b}", "labels: {a: b}, annotations: {shoal.io/exclusive: app}", "delete metadata.annotations[shoal.io/exclusive] can't be changed in place"},
		{"another node", "spec:\n", "spec:\n  nodeName: n2\n", "delete spec.nodeName can't be changed in place"},
	} {
		t.Run(test.name, func(t *testing.T) {
			edited := strings.Replace(declared, test.old, test.new, 1)
			if test.old != "" && edited == declared {
				t.Fatal("the edit changes nothing")
			}
			var got []string
			for _, d := range DeclaredPods(input(created(t), pod(t, edited))) {
				switch d.Verb {
				case Update:
					got = append(got, fmt.Sprintf("update generation=%d", d.Pod.Generation))
					if d.Pod.UID != "new-1" {
						t.Errorf("UID changed to %s", d.Pod.UID)
					}
				case Delete:
					got = append(got, "delete "+d.Why)
					if at := d.Pod.DeletionTimestamp; !at.Time.Equal(now.Add(7 * time.Second)) {
						t.Errorf("deletionTimestamp %v does not leave the old pod its grace", at)
					}
				default:
					got = append(got, string(d.Verb))
				}
			}
			if strings.Join(got, ";") != test.want {
				t.Errorf("got  %q\nwant %q", strings.Join(got, ";"), test.want)
			}
		})
	}
}

func TestAPodThatIsNoLongerDeclaredIsDeletedAndForgottenWhenGone(t *testing.T) {
	p := created(t)
	in := input(p, nil)
	d := DeclaredPods(in)
	if len(d) != 1 || d[0].Verb != Delete || d[0].Why != "" {
		t.Fatalf("got %+v", d)
	}
	in.Decided[web] = d[0].Pod
	if d := DeclaredPods(in); len(d) != 0 {
		t.Errorf("while it ends: got %+v", d)
	}
	in.Gone[p.UID] = true
	if d := DeclaredPods(in); len(d) != 1 || d[0].Verb != Forget {
		t.Errorf("when it is gone: got %+v", d)
	}
}

func TestAPodOfAControllerIsNotOurs(t *testing.T) {
	p := created(t)
	yes := true
	p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", Controller: &yes}}
	if d := DeclaredPods(input(p, nil)); len(d) != 0 {
		t.Errorf("got %+v", d)
	}
}

func TestAnExportedPodIsItsFilesAlone(t *testing.T) {
	exported := pod(t, declared)
	yes := true
	exported.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", Controller: &yes}}
	exported.Finalizers = []string{"example.com/hold"}
	p := DeclaredPods(input(nil, exported))[0].Pod
	if len(p.OwnerReferences)+len(p.Finalizers) > 0 {
		t.Errorf("created with %v, %v", p.OwnerReferences, p.Finalizers)
	}
	if d := DeclaredPods(input(p, nil)); len(d) != 1 || d[0].Verb != Delete {
		t.Errorf("its file went away: got %+v", d)
	}
}

func TestAShortGraceIsNotLostToWholeSeconds(t *testing.T) {
	p := created(t)
	late := now.Add(900 * time.Millisecond)
	MarkDeleted(p, 1, late)
	if left := p.DeletionTimestamp.Sub(late); left < time.Second || p.DeletionTimestamp.Nanosecond() != 0 {
		t.Errorf("%s left of a grace of 1s, until %s", left, p.DeletionTimestamp)
	}
}

func TestGraceCanBeShortenedNotLengthened(t *testing.T) {
	p := created(t)
	for _, step := range []struct{ asked, left int64 }{{30, 30}, {60, 30}, {5, 5}, {10, 5}, {0, 0}} {
		MarkDeleted(p, step.asked, now)
		if got := int64(p.DeletionTimestamp.Sub(now).Seconds()); got != step.left {
			t.Errorf("after asking for %d s: %d s left, want %d", step.asked, got, step.left)
		}
	}
}

// TestDecisionsConverge: whatever is declared and edited, carrying decisions
// out ends with exactly the declared pod, or none, and nothing left to decide.
func TestDecisionsConverge(t *testing.T) {
	edits := []string{"", "web:2", "[walk]", "{a: c}"}
	rapid.Check(t, func(rt *rapid.T) {
		in := input(nil, nil)
		for range rapid.IntRange(1, 8).Draw(rt, "edits") {
			delete(in.Declared, web)
			if rapid.Bool().Draw(rt, "there") {
				text := declared
				switch e := rapid.SampledFrom(edits).Draw(rt, "edit"); e {
				case "web:2":
					text = strings.Replace(text, "web:1", e, 1)
				case "[walk]":
					text = strings.Replace(text, "[run]", e, 1)
				case "{a: c}":
					text = strings.Replace(text, "{a: b}", e, 1)
				}
				in.Declared[web] = pod(t, text)
			}
			for range rapid.IntRange(0, 5).Draw(rt, "steps") {
				carryOut(in)
			}
		}
		for range 5 {
			carryOut(in)
		}
		if d := DeclaredPods(in); len(d) > 0 {
			rt.Fatalf("never at rest: %+v", d)
		}
		want, is := in.Declared[web], in.Decided[web]
		switch {
		case (want == nil) != (is == nil):
			rt.Fatalf("declared %v, decided %v", want != nil, is != nil)
		case want != nil && (is.Spec.Containers[0].Image != want.Spec.Containers[0].Image ||
			is.Spec.Containers[0].Command[0] != want.Spec.Containers[0].Command[0] || is.Labels["a"] != want.Labels["a"]):
			rt.Fatalf("decided %+v", is)
		}
	})
}

// carryOut does what was decided; what is being deleted is gone by then.
func carryOut(in Input) {
	for _, d := range DeclaredPods(in) {
		if d.Verb == Forget {
			delete(in.Decided, d.Key)
			continue
		}
		in.Decided[d.Key] = d.Pod
		in.Gone[d.Pod.UID] = d.Pod.DeletionTimestamp != nil
	}
}

func TestAPodThatIsToBeMadeAnewIsReplacedAndAnEditComesFirst(t *testing.T) {
	again := func(why string, edit func(*v1.Pod)) (got []string) {
		d := pod(t, declared)
		edit(d)
		in := input(created(t), d)
		in.Again = func(*v1.Pod) string { return why }
		for _, dec := range DeclaredPods(in) {
			got = append(got, string(dec.Verb)+" "+dec.Why)
		}
		return got
	}
	if got := again("the node was shut down", func(*v1.Pod) {}); fmt.Sprint(got) != "["+string(Delete)+" the node was shut down]" {
		t.Errorf("got %q", got)
	}
	if got := again("", func(*v1.Pod) {}); got != nil {
		t.Errorf("with no reason: got %q", got)
	}
	if got := again("the node was shut down", func(p *v1.Pod) { p.Spec.Containers[0].Command = []string{"x"} }); len(got) != 1 || !strings.Contains(got[0], "can't be changed in place") {
		t.Errorf("edited meanwhile: got %q", got)
	}
}
