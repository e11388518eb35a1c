package probe

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

var begin = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

func TestAResultCountsWhenItsThresholdIsReached(t *testing.T) {
	p := &v1.Probe{SuccessThreshold: 2, FailureThreshold: 3}
	tests := []struct{ said, amountsTo string }{
		{"s", "-"}, {"ss", "-S"}, {"sfs", "---"}, {"ff", "--"}, {"fff", "--F"},
		{"ssffsfff", "-SSSSSSF"}, // one success in between begins the count again
		{"fffsfss", "--FFFFS"},
	}
	for _, test := range tests {
		var s State
		got := ""
		for _, r := range test.said {
			s = s.After(p, map[rune]Result{'s': Success, 'f': Failure}[r])
			got += map[Result]string{Unknown: "-", Success: "S", Failure: "F"}[s.Result]
		}
		if got != test.amountsTo {
			t.Errorf("%s: got %s, want %s", test.said, got, test.amountsTo)
		}
	}
}

func TestOnlyReadinessIsProbedAfterAnAnswer(t *testing.T) {
	for _, test := range []struct {
		kind            Kind
		result          Result
		over, afterPass bool
	}{
		{Startup, Failure, true, true}, {Liveness, Failure, true, false}, {Readiness, Failure, false, false},
	} {
		if got := (State{Result: test.result}).Over(test.kind); got != test.over {
			t.Errorf("%s after %s: over is %v", test.kind, test.result, got)
		}
		if got := (State{Result: Success}).Over(test.kind); got != test.afterPass {
			t.Errorf("%s after a success: over is %v", test.kind, got)
		}
		if (State{}).Over(test.kind) {
			t.Errorf("%s: over before any answer", test.kind)
		}
	}
}

func TestFirstProbe(t *testing.T) {
	p := &v1.Probe{InitialDelaySeconds: 5, PeriodSeconds: 10}
	for _, test := range []struct {
		name   string
		kind   Kind
		known  Result
		ran    time.Duration // how long the container has
		chance float64
		want   time.Duration // after now
	}{
		{"somebody waits for it", Readiness, Unknown, 0, 0.5, 5 * time.Second},
		{"after the delay", Startup, Unknown, time.Minute, 0.5, 0},
		{"nobody waits", Liveness, Unknown, 0, 0.5, 10 * time.Second},
		{"found by a daemon that was restarted", Readiness, Success, time.Hour, 0.25, 2500 * time.Millisecond},
		{"restarted within the delay", Liveness, Unknown, 3 * time.Second, 0, 2 * time.Second},
	} {
		now := begin.Add(test.ran)
		if got := First(test.kind, p, State{Result: test.known}, begin, now, test.chance).Sub(now); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

func TestNextProbeKeepsTheRhythm(t *testing.T) {
	p := &v1.Probe{PeriodSeconds: 10}
	for _, test := range []struct{ took, want time.Duration }{
		{time.Millisecond, 10 * time.Second},
		{9 * time.Second, 10 * time.Second},
		{15 * time.Second, 15 * time.Second}, // missed: at once, then as if it had not been
		{45 * time.Second, 45 * time.Second},
	} {
		if got := Next(p, begin, begin.Add(test.took)).Sub(begin); got != test.want {
			t.Errorf("after %s: next at %s, want %s", test.took, got, test.want)
		}
	}
}
