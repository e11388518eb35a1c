package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func times(ms ...int) []time.Duration {
	var all []time.Duration
	for _, n := range ms {
		all = append(all, time.Duration(n)*time.Millisecond)
	}
	return all
}

func TestQuantileIsATimeThatWasMeasured(t *testing.T) {
	var hundred []int
	for i := range 100 {
		hundred = append(hundred, 100-i)
	}
	for _, c := range []struct {
		times []time.Duration
		q     float64
		want  int // ms
	}{
		{times(3, 1, 2), 0.5, 2},
		{times(3, 1, 2), 0, 1},
		{times(4, 3, 1, 2), 0.5, 2},
		{times(3, 1, 2), 0.99, 3},
		{times(hundred...), 0.99, 99},
		{times(hundred...), 0.5, 50},
		{times(hundred...), 1, 100},
		{nil, 0.5, 0},
	} {
		if got := (Series{Times: c.times}).Quantile(c.q); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("quantile %v of %v = %v, want %d ms", c.q, c.times, got, c.want)
		}
	}
}

// verdicts are the last cells of the table of targets.
func verdicts(r Result) []string {
	var all []string
	_, table, _ := strings.Cut(r.String(), "| target |")
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) == 5 && !strings.Contains(line, "---") {
			all = append(all, strings.TrimSpace(cells[3]))
		}
	}
	return all
}

func TestTargetsAreMetUpToTheirLimit(t *testing.T) {
	good := Result{
		Pods:   50,
		Starts: []Series{{nameBaseline, times(10)}, {nameShoal, times(20)}, {namePodman, times(160)}},
		Bursts: []Series{{nameBaseline, times(700)}, {nameShoal, times(1000)}},
		Idle:   [2]Idle{{}, {CPU: time.Millisecond, For: time.Second, Memory: Memory{RSS: 40e6}}},
		Used:   Memory{Anonymous: 25e6},
		Around: []Around{{nameShoal, 1.5e6}},
	}
	if got, want := strings.Join(verdicts(good), " "), "met met met met met met met"; got != want {
		t.Errorf("at the limits: %s, want %s", got, want)
	}
	bad := Result{
		Pods:   50,
		Starts: []Series{{nameBaseline, times(10)}, {nameShoal, times(21)}, {namePodman, times(160)}},
		Bursts: []Series{{nameBaseline, times(700)}, {nameShoal, times(1001)}},
		Idle:   [2]Idle{{}, {CPU: 1100 * time.Microsecond, For: time.Second, Memory: Memory{RSS: 41e6}}},
		Used:   Memory{Anonymous: 26e6},
		Around: []Around{{nameShoal, 1.6e6}},
	}
	m := "**missed**"
	if got, want := strings.Join(verdicts(bad), " "), strings.Join([]string{m, m, m, m, m, m, m}, " "); got != want {
		t.Errorf("just above the limits: %s, want %s", got, want)
	}
}

func TestNothingToCompareWithIsAMiss(t *testing.T) {
	if got := quotient(time.Second, 0); !math.IsInf(got, 1) {
		t.Errorf("quotient by nothing = %v, want infinity", got)
	}
}
