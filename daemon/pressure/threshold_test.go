package pressure

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

func thresholds(t *testing.T, hard, soft, grace, reclaim map[string]string) []Threshold {
	t.Helper()
	list, err := Parse(hard, soft, grace, reclaim)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

type m = map[string]string

func TestThresholdErrorsNameSignalAndCure(t *testing.T) {
	for _, test := range []struct {
		hard, soft, grace, reclaim m
		want                       string
	}{
		{m{"memory.free": "1"}, nil, nil, nil, `hard."memory.free": there is no such signal`},
		{m{"memory.available": "-1"}, nil, nil, nil, `hard."memory.available": "-1": want a quantity`},
		{m{"memory.available": "0"}, nil, nil, nil, `want a quantity`},
		{m{"memory.available": "NaN%"}, nil, nil, nil, `want a percentage`},
		{m{"memory.available": "101%"}, nil, nil, nil, `want a percentage`},
		{nil, m{"memory.available": "1Gi"}, nil, nil, `soft_grace_period."memory.available": want how long`},
		{nil, m{"memory.available": "1Gi"}, m{"memory.available": "-1s"}, nil, `soft_grace_period."memory.available": want how long`},
		{nil, nil, m{"pid.available": "1s"}, nil, `soft_grace_period."pid.available": there is no soft threshold`},
		{nil, nil, nil, m{"nodefs.available": "much"}, `minimum_reclaim."nodefs.available": "much"`},
	} {
		_, err := Parse(test.hard, test.soft, test.grace, test.reclaim)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
	if list := thresholds(t, m{"memory.available": "0%", "pid.available": "100%"}, nil, nil, nil); len(list) != 0 {
		t.Errorf("0%% and 100%% are none: got %v", list)
	}
}

// TestPressureComesAndGoes is a story in virtual time: at each step something is
// left, and the verdict follows.
func TestPressureComesAndGoes(t *testing.T) {
	list := thresholds(t, m{"memory.available": "100", "nodefs.available": "10%"}, m{"memory.available": "300"},
		m{"memory.available": "30s"}, m{"memory.available": "50", "nodefs.available": "5%"})
	var s State
	now := t0
	for _, step := range []struct {
		after        time.Duration
		memory, disk int64 // of 1000
		want         string
	}{
		{0, 500, 500, "[] []"},
		{10 * time.Second, 300, 100, "[] []"}, // at a threshold is not below it
		{10 * time.Second, 299, 500, "[MemoryPressure] []"},
		{20 * time.Second, 299, 500, "[MemoryPressure] []"},
		{10 * time.Second, 299, 500, "[MemoryPressure] [soft memory.available]"},
		{10 * time.Second, 349, 500, "[MemoryPressure] [soft memory.available]"}, // not 50 above yet
		{10 * time.Second, 350, 500, "[MemoryPressure] []"},
		{10 * time.Second, 299, 500, "[MemoryPressure] []"}, // the grace begins anew
		{10 * time.Second, 99, 99, "[DiskPressure MemoryPressure] [hard memory.available hard nodefs.available]"},
		{10 * time.Second, 400, 149, "[DiskPressure MemoryPressure] [hard nodefs.available]"},
		{10 * time.Second, 400, 150, "[DiskPressure MemoryPressure] []"},
		{4*time.Minute + 39*time.Second, 400, 150, "[DiskPressure MemoryPressure] []"}, // memory was last low at 90 s
		{1 * time.Second, 400, 150, "[DiskPressure] []"},
		{10 * time.Second, 400, 150, "[] []"},
	} {
		now = now.Add(step.after)
		var v Verdict
		s, v = Look(list, 5*time.Minute, s, Observations{MemoryAvailable: {step.memory, 1000}, NodeFSAvailable: {step.disk, 1000}}, now)
		var starved []string
		for _, th := range v.Starved {
			kind := "hard "
			if th.Soft {
				kind = "soft "
			}
			starved = append(starved, kind+string(th.Signal))
		}
		if got := fmt.Sprintf("%v %v", v.Conditions, starved); got != step.want {
			t.Errorf("at %s, %d and %d left: got %s, want %s", now.Sub(t0), step.memory, step.disk, got, step.want)
		}
	}
}

func TestARestartKeepsAConditionForTheTransitionPeriod(t *testing.T) {
	list := thresholds(t, m{"memory.available": "100"}, nil, nil, nil)
	s := Restored([]v1.NodeConditionType{v1.NodeMemoryPressure}, t0)
	plenty := Observations{MemoryAvailable: {500, 1000}}
	s, v := Look(list, 5*time.Minute, s, plenty, t0.Add(299*time.Second))
	if len(v.Conditions) != 1 || len(v.Starved) != 0 {
		t.Errorf("before it has passed: %+v", v)
	}
	if _, v = Look(list, 5*time.Minute, s, plenty, t0.Add(300*time.Second)); len(v.Conditions) != 0 {
		t.Errorf("after: %+v", v)
	}
	if _, v = Look(list, 0, State{}, Observations{MemoryAvailable: {5, 1000}}, t0); len(v.Conditions) != 1 {
		t.Errorf("without a transition period a condition that holds is not said: %+v", v)
	}
	if Relieved(list, Observations{MemoryAvailable: {99, 1000}}) || !Relieved(list, Observations{}) {
		t.Error("what is low is relieved, or what is not measured is not")
	}
}
