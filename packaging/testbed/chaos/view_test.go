package chaos

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// resting is a cluster of two hosts with all that is right, as `shoal get -o json` tells of it: objects by name.
func resting() map[string]map[string]any {
	objects := make(map[string]map[string]any)
	object := func(kind, name, owner string, more string) {
		text := fmt.Sprintf(`{"kind": %q, "metadata": {"name": %q, "namespace": "default", "uid": "uid-of-%s", "resourceVersion": "7", "generation": 2%s}%s}`, kind, name, name, owner, more)
		var o map[string]any
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			panic(fmt.Sprint(err, text))
		}
		objects[name] = o
	}
	ownedBy := func(kind, name string) string {
		return fmt.Sprintf(`, "ownerReferences": [{"kind": %q, "name": %q, "controller": true}]`, kind, name)
	}
	containers := `"containers": [{"name": "main", "env": [{"name": "EDIT", "value": "e1"}]}]`
	pod := func(name, node, owner string) {
		object("Pod", name, owner, fmt.Sprintf(`, "spec": {"nodeName": %q, %s}, "status": {"phase": "Running", "containerStatuses": [{"name": "main"}], "conditions": [{"type": "Ready", "status": "True"}]}`, node, containers))
	}
	workload := func(kind, name, owner string) {
		object(kind, name, owner, `, "spec": {"replicas": 2, "template": {"spec": {`+containers+`}}}, "status": {"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2}`)
	}
	for _, n := range []string{"n1", "n2"} {
		object("Node", n, "", `, "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-21T20:00:00Z"}]}`)
		pod("web-1-"+n, n, ownedBy("ReplicaSet", "web-1"))
		pod("agent-"+n, n, ownedBy("DaemonSet", "agent"))
	}
	pod("solo-1", "n2", `, "annotations": {"EDIT": "e1"}`)
	workload("Deployment", "web", "")
	workload("ReplicaSet", "web-1", ownedBy("Deployment", "web"))
	workload("DaemonSet", "agent", "")
	object("ConfigMap", "reg-1", "", `, "data": {"value": "r1-1"}`)
	return objects
}

func viewOf(t *testing.T, objects map[string]map[string]any) View {
	t.Helper()
	text, err := json.Marshal(map[string]any{"items": slices.Collect(maps.Values(objects))})
	if err != nil {
		t.Fatal(err)
	}
	v, err := ReadView(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// set changes what lies at a path.
func set(o any, value any, path ...any) {
	for _, step := range path[:len(path)-1] {
		switch step := step.(type) {
		case string:
			o = o.(map[string]any)[step]
		case int:
			o = o.([]any)[step]
		}
	}
	last := path[len(path)-1].(string)
	if value == nil {
		delete(o.(map[string]any), last)
	} else {
		o.(map[string]any)[last] = value
	}
}

type objects = map[string]map[string]any

func TestWhatIsAmissIsCaught(t *testing.T) {
	hosts := []string{"n1", "n2"}
	files := func() Declared { return Declared{"web": {"e1"}, "agent": {"e1", "e0"}, "solo-1": {"e1"}} }
	if got := viewOf(t, resting()).Amiss(hosts, files()); len(got) > 0 {
		t.Fatalf("before anything is planted: %q", got)
	}
	copied := func(o objects, from, to string) {
		text, _ := json.Marshal(o[from])
		var c map[string]any
		_ = json.Unmarshal(text, &c)
		set(c, to, "metadata", "name")
		o[to] = c
	}
	for _, c := range []struct {
		name  string
		plant func(objects, Declared)
		want  string
	}{
		{"a pod too many", func(o objects, _ Declared) { copied(o, "web-1-n1", "web-1-n3") }, "deployment web: 3 pods, want 2"},
		{"a pod too few", func(o objects, _ Declared) { delete(o, "web-1-n1") }, "deployment web: 1 pods, want 2"},
		{"a pod of an older template", func(o objects, _ Declared) {
			set(o["web-1-n1"], "e0", "spec", "containers", 0, "env", 0, "value")
		}, `deployment web: pod web-1-n1 is of edit "e0", want "e1"`},
		{"a status that is behind", func(o objects, _ Declared) { set(o["web"], 3, "metadata", "generation") }, "deployment web: its status is behind"},
		{"a replica set without its deployment", func(o objects, _ Declared) { delete(o, "web") }, "replica set web-1: its owner is gone"},
		{"two agents on one node", func(o objects, _ Declared) { set(o["agent-n1"], "n2", "spec", "nodeName") }, "daemon set agent: 2 pods on n2"},
		{"no agent on a node", func(o objects, _ Declared) { set(o["agent-n1"], "n2", "spec", "nodeName") }, "daemon set agent: 0 pods on n1"},
		{"an agent on a node that is not", func(o objects, _ Declared) {
			copied(o, "agent-n1", "agent-n3")
			set(o["agent-n3"], "n3", "spec", "nodeName")
		}, "daemon set agent: 3 pods, want 2"},
		{"an agent of an older template", func(o objects, _ Declared) {
			set(o["agent-n2"], "e0", "spec", "containers", 0, "env", 0, "value")
		}, `daemon set agent: pod agent-n2 is of edit "e0"`},
		{"pods without their daemon set", func(o objects, _ Declared) { delete(o, "agent") }, "DaemonSet agent is not there, and has"},
		{"an edit that no file has", func(_ objects, d Declared) { d["web"] = []string{"e2"} }, `deployment web: edit "e1" is in force, files have ["e2"]`},
		{"a daemon set's edit that no file has", func(_ objects, d Declared) { d["agent"] = []string{"e2"} }, `daemon set agent: edit "e1" is in force`},
		{"a pod's edit that no file has", func(_ objects, d Declared) { d["solo-1"] = []string{"e2"} }, `pod solo-1: edit "e1" is in force`},
		{"a pod whose annotation is of another edit", func(o objects, _ Declared) {
			set(o["solo-1"], "e0", "metadata", "annotations", "EDIT")
		}, `pod solo-1: edit "e0" is in force`},
		{"a pod whose file is gone", func(_ objects, d Declared) { delete(d, "solo-1") }, "pod solo-1: no file declares it"},
		{"a file without its pod", func(_ objects, d Declared) { d["solo-2"] = []string{"e1"} }, "solo-2: a file declares it, and there is none"},
		{"a pod that ends", func(o objects, _ Declared) { set(o["solo-1"], "2026-11-21T20:00:00Z", "metadata", "deletionTimestamp") }, "pod solo-1 on n2 is about to end"},
		{"a pod without a node", func(o objects, _ Declared) { set(o["solo-1"], nil, "spec", "nodeName") }, "pod solo-1 on  has no node"},
		{"a pod that is not ready", func(o objects, _ Declared) { set(o["solo-1"], []any{}, "status", "conditions") }, "pod solo-1 on n2 is not ready"},
		{"a node that is not ready", func(o objects, _ Declared) { set(o["n1"], "Unknown", "status", "conditions", 0, "status") }, "node n1 is not ready"},
		{"a node with a taint", func(o objects, _ Declared) {
			set(o["n1"], map[string]any{"taints": []any{map[string]any{"key": "k", "effect": "NoExecute"}}}, "spec")
		}, "node n1 has taints"},
		{"a node too few", func(o objects, _ Declared) { delete(o, "n1") }, `nodes are ["n2"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, d := resting(), files()
			c.plant(o, d)
			if got := viewOf(t, o).Amiss(hosts, d); !slices.ContainsFunc(got, func(a string) bool { return strings.HasPrefix(a, c.want) }) {
				t.Errorf("not caught: %q", got)
			}
		})
	}
}

func TestDisagreementsAreCaught(t *testing.T) {
	same := func(change func(objects)) []string {
		o := resting()
		change(o)
		return Disagreements(map[string]View{"n1": viewOf(t, resting()), "n2": viewOf(t, o), "n3": viewOf(t, resting())})
	}
	for name, own := range map[string]func(objects){
		"nothing":            func(objects) {},
		"a resource version": func(o objects) { set(o["web"], "8", "metadata", "resourceVersion") },
		"a sign of life":     func(o objects) { set(o["n1"], "2026-11-21T20:00:09Z", "status", "conditions", 0, "lastHeartbeatTime") },
	} {
		if got := same(own); len(got) > 0 {
			t.Errorf("%s is each node's own: %q", name, got)
		}
	}
	for want, change := range map[string]func(objects){
		`Pod default/solo-1: n1 and n2 differ.metadata.uid: "uid-of-solo-1", "another"`:    func(o objects) { set(o["solo-1"], "another", "metadata", "uid") },
		`Pod default/solo-1: n1 and n2 differ.spec.nodeName: "n2", "n1"`:                   func(o objects) { set(o["solo-1"], "n1", "spec", "nodeName") },
		`ConfigMap default/reg-1: n1 and n2 differ.data.value: "r1-1", "r1-2"`:             func(o objects) { set(o["reg-1"], "r1-2", "data", "value") },
		`ConfigMap default/reg-1: n1 and n2 differ: {"data":{"value":"r1-1"},"kind"`:       func(o objects) { delete(o, "reg-1") },
		`Pod default/solo-1: n1 and n2 differ.status.reason: nothing, "NodeLost"`:          func(o objects) { set(o["solo-1"], "NodeLost", "status", "reason") },
		`Pod default/solo-1: n1 and n2 differ.spec.containers[0].env[0].value: "e1", "e2"`: func(o objects) { set(o["solo-1"], "e2", "spec", "containers", 0, "env", 0, "value") },
	} {
		if got := same(change); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("got %q, want %s", got, want)
		}
	}
}

func TestPodsThatMovedAreCaught(t *testing.T) {
	before := viewOf(t, resting()).Stays()
	if got := Moved(before, viewOf(t, resting()).Stays()); len(got) > 0 {
		t.Errorf("nothing moved: %q", got)
	}
	for want, change := range map[string]func(objects){
		"pod default/solo-1 is gone": func(o objects) { delete(o, "solo-1") },
		"pod default/solo-1 was {UID:uid-of-solo-1 Node:n2 Restarts:0}, is {UID:uid-of-solo-1 Node:n1 ": func(o objects) { set(o["solo-1"], "n1", "spec", "nodeName") },
		"pod default/solo-1 was {UID:uid-of-solo-1 ":                                                    func(o objects) { set(o["solo-1"], "another", "metadata", "uid") },
		"pod default/solo-1 was {UID:uid-of-solo-1 Node:n2 R":                                           func(o objects) { set(o["solo-1"], 1, "status", "containerStatuses", 0, "restartCount") },
	} {
		o := resting()
		change(o)
		if got := Moved(before, viewOf(t, o).Stays()); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("got %q, want %s", got, want)
		}
	}
	after := resting()
	after["solo-1"]["metadata"].(map[string]any)["name"] = "solo-2"
	if got := Moved(before, viewOf(t, after).Stays()); !slices.Contains(got, "pod default/solo-2 is new on n2") {
		t.Errorf("got %q", got)
	}
}

// Letters are values; each call is begun and answered at two numbers, or never answered.
func TestLostWritesAreCaught(t *testing.T) {
	at := func(value string, begin, end int) Call {
		return Call{Value: value, Begin: time.Duration(begin), End: time.Duration(end)}
	}
	for _, c := range []struct {
		name    string
		history History
		may     []string // be in force
		not     []string
	}{
		{"one after the other", History{at("a", 1, 2), at("b", 3, 4)}, []string{"b"}, []string{"a", ""}},
		{"at once", History{at("a", 1, 4), at("b", 2, 3)}, []string{"a", "b"}, []string{""}},
		{"the later one unanswered", History{at("a", 1, 2), at("b", 3, 0)}, []string{"a", "b"}, []string{""}},
		{"an unanswered one may come late", History{at("a", 1, 0), at("b", 3, 4)}, []string{"a", "b"}, []string{""}},
		{"none answered", History{at("a", 1, 0), at("b", 3, 0)}, []string{"a", "b", ""}, []string{"c"}},
		{"a deletion", History{at("a", 1, 2), at("", 3, 4)}, []string{""}, []string{"a"}},
		{"written again after it", History{at("", 1, 2), at("a", 3, 4)}, []string{"a"}, []string{""}},
		{"three, of which two at once", History{at("a", 1, 2), at("b", 3, 6), at("c", 4, 5)}, []string{"b", "c"}, []string{"a"}},
		{"what was seen, and no more", Known("a", 1), []string{"a"}, []string{""}},
	} {
		for _, v := range c.may {
			if got := c.history.Lost(v); got != "" {
				t.Errorf("%s: %q %s", c.name, v, got)
			}
		}
		for _, v := range c.not {
			if got := c.history.Lost(v); got == "" {
				t.Errorf("%s: %q is not caught", c.name, v)
			}
		}
	}
}

func TestTheSameSeedIsTheSamePlan(t *testing.T) {
	hosts := []string{"n1", "n2", "n3", "n4", "n5"}
	did := make(map[Verb]int)
	for number := range 200 {
		r := Draw(7, number, hosts)
		if again := Draw(7, number, hosts); r.String() != again.String() {
			t.Fatalf("got\n%s\nand\n%s", r, again)
		}
		for _, s := range r.Steps {
			did[s.Do]++
			switch {
			case r.Gentle && s.Do == Freeze && s.For >= 5*time.Second, r.Gentle && s.Do == Lose && s.Percent > 20:
				t.Errorf("not gentle: %s", s)
			case r.Gentle && !slices.Contains([]Verb{Freeze, Lose, SetClock, CrashLoop, Write, Remove}, s.Do):
				t.Errorf("not gentle: %s", s)
			case len(s.On) == 0 || s.For > 12*time.Second:
				t.Errorf("round %d: %+v", number, s)
			}
		}
	}
	for verb := range maps.Keys(onHost) {
		if did[verb] == 0 {
			t.Errorf("never drawn: %s", verb)
		}
	}
	if a, b := Draw(1, 1, hosts).String(), Draw(2, 1, hosts).String(); a == b {
		t.Errorf("two seeds are one plan:\n%s", a)
	}
}
