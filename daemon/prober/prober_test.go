package prober

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/probe"
)

// script is a container that answers its probes as told: s, f, or h to hang
// until it is called off. The last answer goes on for ever.
type script struct {
	begin time.Time

	mu      sync.Mutex
	answers string
	log     []string
}

func (s *script) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf("%v ", time.Since(s.begin).Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

func (s *script) exec(ctx context.Context, _ []string, _ io.Writer) (int, error) {
	s.mu.Lock()
	answer := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	s.mu.Unlock()
	s.note("asked")
	switch answer {
	case 'h':
		<-ctx.Done()
		return 0, context.Cause(ctx)
	case 'f':
		return 1, nil
	}
	return 0, nil
}

func (s *script) task(k probe.Kind, p v1.Probe) Task {
	p.Exec = &v1.ExecAction{}
	return Task{
		Key: Key{"c", 0, k}, Probe: &p, Started: s.begin, Target: Target{Exec: s.exec},
		Said: func(st probe.State, out probe.Outcome) { s.note("%s so %q", out.Result, st.Result) },
	}
}

// scripted runs a prober in virtual time.
func scripted(t *testing.T, answers string, f func(*Prober, *script)) string {
	var s script
	synctest.Test(t, func(t *testing.T) {
		s = script{begin: time.Now(), answers: answers}
		p := New()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { p.Run(ctx); close(done) }()
		f(p, &s)
		cancel()
		<-done
	})
	return strings.Join(s.log, "\n") + "\n"
}

func TestProbesFollowTheirTimes(t *testing.T) {
	got := scripted(t, "ffssff", func(p *Prober, s *script) {
		p.Set("pod", []Task{s.task(probe.Readiness, v1.Probe{InitialDelaySeconds: 3, PeriodSeconds: 10, TimeoutSeconds: 1, SuccessThreshold: 2, FailureThreshold: 2})})
		time.Sleep(60 * time.Second)
	})
	const want = `3s asked
3s Failure so ""
13s asked
13s Failure so "Failure"
23s asked
33s asked
33s Success so "Success"
43s asked
43s Failure so "Success"
53s asked
53s Failure so "Failure"
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAFailedLivenessProbeIsTheLast(t *testing.T) {
	got := scripted(t, "f", func(p *Prober, s *script) {
		s.begin = s.begin.Add(-time.Hour) // the first is anywhere in the period
		task := s.task(probe.Liveness, v1.Probe{PeriodSeconds: 10, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3})
		p.Set("pod", []Task{task})
		time.Sleep(10 * time.Minute)
		p.Set("pod", []Task{task}) // the container runs on
		time.Sleep(10 * time.Minute)
	})
	if n := strings.Count(got, "asked"); n != 3 || !strings.HasSuffix(got, "Failure so \"Failure\"\n") {
		t.Errorf("asked %d times, want 3:\n%s", n, got)
	}
}

func TestAHangingProbeTimesOutAndDoesNotDelayTheRhythm(t *testing.T) {
	got := scripted(t, "hhs", func(p *Prober, s *script) {
		p.Set("pod", []Task{s.task(probe.Startup, v1.Probe{PeriodSeconds: 2, TimeoutSeconds: 3, SuccessThreshold: 1, FailureThreshold: 9})})
		time.Sleep(time.Minute)
	})
	const want = `0s asked
3s Failure so ""
3s asked
6s Failure so ""
6s asked
6s Success so "Success"
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestADroppedProbeIsCalledOffAndSaysNothing(t *testing.T) {
	got := scripted(t, "h", func(p *Prober, s *script) {
		p.Set("pod", []Task{s.task(probe.Readiness, v1.Probe{PeriodSeconds: 1, TimeoutSeconds: 3600})})
		time.Sleep(time.Second)
		p.Set("other", nil)
		p.Set("pod", nil)
		synctest.Wait()
		s.note("dropped")
		time.Sleep(time.Hour)
		if len(p.tasks) != 0 || len(p.queue) != 0 {
			t.Errorf("left over: %v %v", p.tasks, p.queue)
		}
	})
	if want := "0s asked\n1s dropped\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAnotherRunOfTheContainerBeginsAnew(t *testing.T) {
	got := scripted(t, "s", func(p *Prober, s *script) {
		first := s.task(probe.Startup, v1.Probe{PeriodSeconds: 10, SuccessThreshold: 1})
		p.Set("pod", []Task{first})
		time.Sleep(time.Minute)
		second := first
		second.Key.Attempt, second.Started = 1, time.Now()
		p.Set("pod", []Task{second})
		time.Sleep(time.Minute)
	})
	if want := "0s asked\n0s Success so \"Success\"\n1m0s asked\n1m0s Success so \"Success\"\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestProbesFoundByANewDaemonAreSpread: a hundred known to be ready are probed
// over their whole period, each on, and no two thirds of them in one part of it.
func TestProbesFoundByANewDaemonAreSpread(t *testing.T) {
	const pods = 100
	var parts [5]int
	scripted(t, "s", func(p *Prober, s *script) {
		for i := range pods {
			task := s.task(probe.Readiness, v1.Probe{PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 1})
			task.State.Result = probe.Success
			task.Target.Exec = func(context.Context, []string, io.Writer) (int, error) {
				s.mu.Lock()
				defer s.mu.Unlock()
				parts[int(time.Since(s.begin)/(2*time.Second))%5]++
				return 0, nil
			}
			p.Set(fmt.Sprint(i), []Task{task})
		}
		// One that is due at the period's very end is put off by together.
		time.Sleep(10*time.Second + together - 1)
	})
	total := 0
	for _, n := range parts {
		total += n
		if n > pods*2/3 {
			t.Errorf("%d of %d probes in one fifth of the period: %v", n, pods, parts)
		}
	}
	if total != pods {
		t.Errorf("%d probes in one period, want %d", total, pods)
	}
}
