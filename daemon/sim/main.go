// Command sim runs many whole nodes of Shoal in one process, in virtual time over
// a network in memory, and measures them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-project/shoal/daemon/gossip/memnet"
)

func main() {
	o := settings(os.Args[1:])
	// testing/synctest wants a *testing.T, which only a run of tests has.
	testing.Init()
	_ = flag.CommandLine.Parse(nil)
	match := func(_, _ string) (bool, error) { return true, nil }
	testing.Main(match, []testing.InternalTest{{Name: "sim", F: func(t *testing.T) {
		if err := run(t, o); err != nil {
			t.Fatal(err)
		}
	}}}, nil, nil)
}

type options struct {
	nodes, pods, rounds int
	delay               time.Duration
	only                string
	profile             string
	svg                 string
	seed                uint64
}

func settings(args []string) (o options) {
	f := flag.NewFlagSet("sim", flag.ExitOnError)
	f.IntVar(&o.nodes, "nodes", 100, "how many nodes")
	f.IntVar(&o.pods, "pods", 0, "how many pods are placed; 0: ten for each node")
	f.IntVar(&o.rounds, "rounds", 10, "how often each thing is measured")
	f.DurationVar(&o.delay, "delay", time.Millisecond, "of the network, one way")
	f.StringVar(&o.only, "only", "event,converge,bound,rest,place,failover,loss,stop", "what is measured")
	f.StringVar(&o.profile, "profile", "", "file for a processor profile")
	f.StringVar(&o.svg, "svg", "", "file for the drawing")
	f.Uint64Var(&o.seed, "seed", 1, "of the network's losses")
	_ = f.Parse(args)
	if o.pods == 0 {
		o.pods = 10 * o.nodes
	}
	return o
}

func (o options) does(what string) bool {
	for _, w := range strings.Split(o.only, ",") {
		if w == what {
			return true
		}
	}
	return false
}

// said prints a line with what it took in real time.
type said struct {
	real time.Time
	cpu  time.Duration
}

func (s *said) line(format string, args ...any) {
	now, cpu := realTime(), processorTime()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Printf("%-100s [%.1f s real, %.1f s of processors, heap %d MB]\n", fmt.Sprintf(format, args...), now.Sub(s.real).Seconds(), (cpu - s.cpu).Seconds(), m.HeapAlloc>>20)
	s.real, s.cpu = now, cpu
}

// realTime is the time outside of the bubble.
func realTime() time.Time {
	var t syscall.Timeval
	_ = syscall.Gettimeofday(&t)
	return time.Unix(t.Unix())
}

func processorTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func run(t *testing.T, o options) (err error) {
	dir, err := os.MkdirTemp("", "shoal-sim")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	today := time.Now()
	if o.profile != "" {
		w, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(w); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	synctest.Test(t, func(*testing.T) {
		time.Sleep(time.Until(today))
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		network := memnet.New(o.delay, 0, o.seed)
		var f *fleet
		if f, err = newFleet(ctx, dir, o.nodes, network); err != nil {
			return
		}
		err = measure(f, o)
		f.stop()
	})
	return err
}

func measure(f *fleet, o options) error {
	s := &said{realTime(), processorTime()}
	if o.does("event") {
		took, err := event(f, 1200, o.rounds)
		if err != nil {
			return err
		}
		s.line("bare Serf event of 1,200 bytes: %s", took)
	}
	if err := f.boot(); err != nil {
		return err
	}
	took, err := until("all see each other and know the same", 10*time.Minute, f.one)
	if err != nil {
		return err
	}
	s.line("booted, %s after the last start", took)
	time.Sleep(3 * time.Minute)
	s.line("3 minutes later")
	if o.does("rest") {
		s.line("at rest: %s", atRest(f, 3*time.Minute))
	}
	if o.does("converge") {
		took, err := converge(f, o.rounds)
		if err != nil {
			return err
		}
		s.line("new manifest in force on another node: %s", took)
	}
	if o.does("bound") {
		took, err := bound(f, o.rounds)
		if err != nil {
			return err
		}
		s.line("new pod begins to run on another host: %s", took)
	}
	if o.does("place") {
		took, err := place(f, o.pods, 10)
		if err != nil {
			return err
		}
		s.line("%d pods run %s after their manifests", o.pods, took)
	}
	return nil
}
