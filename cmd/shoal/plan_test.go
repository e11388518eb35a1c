package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/plan"
)

func TestPlanIsPrintedAndItsExitCodeSaysWhetherAllRunsOn(t *testing.T) {
	h := newHost(t)
	good := plan.Outcome{Action: plan.Lose, Nodes: []string{"n2"}, Left: 2, Members: 3, OK: true, Pods: []plan.Pod{}}
	bad := plan.Outcome{Action: plan.Lose, Nodes: []string{"n3"}, Left: 2, Members: 3, Pods: []plan.Pod{{Namespace: "default", Name: "db", Node: "n3", Fate: plan.Ends, Why: "so"}}}
	says := func(want string, code int, args ...string) {
		t.Helper()
		out, got := try(t, h.shoal(append([]string{"plan"}, args...)...), "")
		if out != want || got != code {
			t.Errorf("plan %v: got exit code %d and:\n%s\nwant %d and:\n%s", args, got, out, code, want)
		}
	}
	h.Shoal.Plans = api.PlanList{Plans: []plan.Outcome{good}}
	says("If n2 is lost, 2 of 3 members are in sight, enough to start pods elsewhere:\nNo pod runs there.\n\nOK: nothing has to move\n", 0, "lose", "n2")
	if q := h.Shoal.Planned; q.Action != plan.Lose || !slices.Equal(q.Nodes, []string{"n2"}) {
		t.Errorf("asked for %+v", q)
	}
	h.Shoal.Plans = api.PlanList{Plans: []plan.Outcome{good, bad}}
	says(`IF LOST  LEFT  MOVE  PENDING  DOWN  GONE  WITH HOST  BELOW BUDGET  VERDICT
n2       2/3   0     0        0     0     0          0             survives
n3       2/3   0     0        0     1     0          0             not all runs on
`, exitNotOK, "lose")
	h.Shoal.Plans.Plans = h.Shoal.Plans.Plans[1:]
	out, code := try(t, h.shoal("plan", "drain", "n3", "n4", "-o", "yaml"), "")
	if code != exitNotOK || !strings.Contains(out, "fate: ends") {
		t.Errorf("got exit code %d and:\n%s", code, out)
	}
	if q := h.Shoal.Planned; q.Action != plan.Drain || !slices.Equal(q.Nodes, []string{"n3", "n4"}) {
		t.Errorf("asked for %+v", q)
	}
	says("error: requires at least 1 arg(s), only received 0\n", 1, "drain")
}

func TestARotationSaysHowFarItIs(t *testing.T) {
	h := newHost(t)
	for _, tt := range []struct {
		args []string
		want string
		code int
	}{
		{nil, "n1: made key 0123\n", 0},
		{[]string{"--finish"}, "error: no rotation is under way\n", 1},
	} {
		out, code := try(t, h.shoal(append([]string{"key", "rotate"}, tt.args...)...), "")
		if out != tt.want || code != tt.code {
			t.Errorf("%v: got exit code %d and %q", tt.args, code, out)
		}
	}
}

func TestWhyNodeSaysHowItIs(t *testing.T) {
	h := newHost(t)
	out, code := try(t, h.shoal("why", "node", "n9"), "")
	if want := "error: there is no node n9. `shoal get nodes` lists them\n"; out != want || code != 1 {
		t.Errorf("got exit code %d and %q, want %q", code, out, want)
	}
}
