package view

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
)

// said is a value as one node's record has it.
func said(stamp record.Stamp, format string, args ...any) Said {
	return Said{json.RawMessage(fmt.Sprintf(format, args...)), stamp}
}

// TestWhyAPodGoesIsSeenBeforeItsNodeSaysSo: the condition DisruptionTarget of a
// decision; what the node says of it counts.
func TestWhyAPodGoesIsSeenBeforeItsNodeSaysSo(t *testing.T) {
	key := manifests.Key{Kind: "Pod", Namespace: "x", Name: "web"}
	const going = `{"type":"DisruptionTarget","status":"True","reason":"%s"}`
	for _, c := range []struct{ decided, told, want string }{
		{fmt.Sprintf(going, "A"), `{"type":"Ready","status":"True"}`, "Ready DisruptionTarget=A"},
		{fmt.Sprintf(going, "A"), fmt.Sprintf(going, "B"), "DisruptionTarget=B"},
		{`{"type":"Ready","status":"False"}`, `{"type":"Initialized","status":"True"}`, "Initialized"},
	} {
		o, err := Fold(key, Entries{
			Decisions: map[string]Said{"n1": said(1, `{"term":1,"metadata":{"uid":"a"},"spec":{"nodeName":"n2"},"status":{"conditions":[%s]}}`, c.decided)},
			Status:    map[string]Said{"n2": said(1, `{"uid":"a","status":{"conditions":[%s]}}`, c.told)},
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, condition := range o.(*v1.Pod).Status.Conditions {
			text := string(condition.Type)
			if condition.Reason != "" {
				text += "=" + condition.Reason
			}
			got = append(got, text)
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("decided %s, told %s: got %s, want %s", c.decided, c.told, text, c.want)
		}
	}
}

func TestOfSeveralNodesDecisionsOnAPodOneCounts(t *testing.T) {
	key := manifests.Key{Kind: "Pod", Namespace: "x", Name: "web"}
	pod := func(stamp record.Stamp, term int, uid, node string) Said {
		return said(stamp, `{"term":%d,"metadata":{"name":"web","namespace":"x","uid":%q},"spec":{"nodeName":%q}}`, term, uid, node)
	}
	status := func(uid, more string) Said { return said(1, `{"uid":%q%s}`, uid, more) }
	const running, refused = `,"status":{"phase":"Running","startTime":"2026-01-01T00:00:00Z"}`, `,"status":{"phase":"Failed","reason":"OutOfcpu"}`
	for _, c := range []struct {
		name      string
		decisions map[string]Said
		status    map[string]Said
		want      string
	}{
		{"one alone", map[string]Said{"n1": pod(1, 1, "a", "n2")}, nil, "a at n2 "},
		{"of a version without terms", map[string]Said{"n1": said(1, `{"metadata":{"uid":"a"},"spec":{"nodeName":"n2"}}`)}, nil, "a at n2 "},
		{"the higher term", map[string]Said{"n1": pod(9, 1, "a", "n1"), "n2": pod(1, 2, "b", "n2")}, nil, "b at n2 "},
		{"of equal terms the later", map[string]Said{"n1": pod(9, 1, "a", "n1"), "n2": pod(1, 1, "b", "n2")}, nil, "a at n1 "},
		{"of equal terms what was admitted", map[string]Said{"n1": pod(9, 1, "a", "n1"), "n2": pod(1, 1, "b", "n2")},
			map[string]Said{"n2": status("b", running)}, "b at n2 Running"},
		{"what was refused was not admitted", map[string]Said{"n1": pod(9, 1, "a", "n1"), "n2": pod(1, 1, "b", "n2")},
			map[string]Said{"n2": status("b", refused)}, "a at n1 "},
		{"what has ended was admitted", map[string]Said{"n1": pod(9, 1, "a", "n1"), "n2": pod(1, 1, "b", "n2")},
			map[string]Said{"n2": status("b", `,"gone":true`)}, "b at n2 "},
		{"a status of another pod of that name", map[string]Said{"n1": pod(1, 1, "a", "n2")}, map[string]Said{"n2": status("b", running)}, "a at n2 "},
		{"a status of another node", map[string]Said{"n1": pod(1, 1, "a", "n2")}, map[string]Said{"n1": status("a", running)}, "a at n2 "},
		{"of a pod without a node its steward's", map[string]Said{"n1": pod(1, 2, "a", ""), "n2": pod(1, 1, "a", "")},
			map[string]Said{"n1": status("a", `,"status":{"phase":"Pending"}`), "n2": status("a", refused)}, "a at  Pending"},
		{"that there is none", map[string]Said{"n1": pod(1, 1, "a", "n2"), "n2": said(1, `{"term":2}`)}, map[string]Said{"n2": status("a", running)}, "none"},
		{"what can't be read does not hide the rest", map[string]Said{"n1": pod(1, 1, "a", "n2"), "n2": said(1, `["term"]`)}, nil, "a at n2 "},
	} {
		o, err := Fold(key, Entries{Decisions: c.decisions, Status: c.status})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := "none"
		if p, ok := o.(*v1.Pod); ok {
			got = fmt.Sprintf("%s at %s %s", p.UID, p.Spec.NodeName, p.Status.Phase)
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTheStatusOfAControllerIsOfTheHighestTerm(t *testing.T) {
	key := manifests.Key{Group: "apps", Kind: "ReplicaSet", Namespace: "x", Name: "web"}
	set := said(1, `{"term":3,"metadata":{"name":"web","namespace":"x","uid":"a"}}`)
	status := func(stamp record.Stamp, term int, uid string, replicas int) Said {
		return said(stamp, `{"term":%d,"uid":%q,"status":{"replicas":%d}}`, term, uid, replicas)
	}
	for _, c := range []struct {
		name   string
		status map[string]Said
		want   int32
	}{
		{"one alone", map[string]Said{"n1": status(1, 0, "a", 1)}, 1},
		{"of equal terms the later", map[string]Said{"n1": status(2, 0, "a", 1), "n2": status(1, 0, "a", 2)}, 1},
		{"the higher term", map[string]Said{"n1": status(2, 0, "a", 1), "n2": status(1, 1, "a", 2)}, 2},
		{"not of another object", map[string]Said{"n1": status(2, 0, "a", 1), "n2": status(1, 1, "b", 2)}, 1},
		{"of another object alone", map[string]Said{"n2": status(1, 1, "b", 2)}, 0},
	} {
		for range 10 { // whatever the order of the map
			o, err := Fold(key, Entries{Decisions: map[string]Said{"n1": set}, Status: c.status})
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if got := o.(*apps.ReplicaSet).Status.Replicas; got != c.want {
				t.Fatalf("%s: %d replicas, want %d", c.name, got, c.want)
			}
		}
	}
}

func TestATermIsPutBesideWhatANewerVersionSays(t *testing.T) {
	for _, c := range []struct{ value, want string }{
		{`{"metadata":{"uid":"a"},"newer":[1]}`, `{"metadata":{"uid":"a"},"newer":[1],"term":7}`},
		{`{"term":3,"kind":"Pod"}`, `{"kind":"Pod","term":7}`},
		{``, `{"term":7}`},
	} {
		var value json.RawMessage
		if c.value != "" {
			value = json.RawMessage(c.value)
		}
		got, err := InTerm(value, 7)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %s, %v; want %s", c.value, got, err, c.want)
		}
	}
	if _, err := InTerm(json.RawMessage(`[]`), 1); err == nil {
		t.Error("a term was put to what is no object")
	}
}
