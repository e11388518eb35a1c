package prober

import (
	"math/rand/v2"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/probe"
)

// TestLaterProbesShareMomentsAndKeepTheirPeriod: a probe is put off once, by a
// twentieth of its period at most, and has its period from then on.
func TestLaterProbesShareMomentsAndKeepTheirPeriod(t *testing.T) {
	tcp := v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{}}
	exec := v1.ProbeHandler{Exec: &v1.ExecAction{}}
	for _, c := range []struct {
		name    string
		probe   v1.Probe
		moments int // of a period at most
		putOff  time.Duration
	}{
		{"10 s", v1.Probe{ProbeHandler: tcp, PeriodSeconds: 10}, 20, 500 * time.Millisecond},
		{"3 s", v1.Probe{ProbeHandler: tcp, PeriodSeconds: 3}, 20, 150 * time.Millisecond},
		{"1 s", v1.Probe{ProbeHandler: tcp, PeriodSeconds: 1}, 20, 50 * time.Millisecond},
		{"a command each 10 s", v1.Probe{ProbeHandler: exec, PeriodSeconds: 10}, 200, 50 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := New()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			chance := rand.New(rand.NewPCG(seed, 0))
			moments := make(map[time.Duration]bool)
			period := probe.Period(&c.probe)
			for range 1000 {
				due := p.begun.Add(time.Duration(chance.Int64N(int64(period))))
				e := &entry{due: due, place: -1}
				p.push(e, grid(&c.probe))
				if late := e.due.Sub(due); late < 0 || late >= c.putOff {
					t.Fatalf("put off by %v, want less than %v", late, c.putOff)
				}
				moments[e.due.Sub(p.begun)%period] = true
				before := e.due
				e.due = probe.Next(&c.probe, e.due, e.due.Add(time.Millisecond))
				if p.push(e, grid(&c.probe)); e.due.Sub(before) != period {
					t.Fatalf("the next one came %v later, want %v", e.due.Sub(before), period)
				}
			}
			if len(moments) > c.moments {
				t.Errorf("%d moments in a period, want at most %d", len(moments), c.moments)
			}
		})
	}
}
