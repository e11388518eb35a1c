// Command sim runs many whole nodes of Shoal in one process, in virtual time over
// a network in memory, and measures them.
package main

import (
	"context"
	"errors"
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
	if o.one {
		if err := one(o.nodes, o.pods); err != nil {
			fmt.Fprintln(os.Stderr, "sim:", err)
			os.Exit(1)
		}
		return
	}
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
	nodes, members      int
	pods                int
	rounds, losses      int
	one                 bool
	delay, settle, rest time.Duration
	only                string
	profile             string
	svg                 string
	seed                uint64
}

func settings(args []string) (o options) {
	f := flag.NewFlagSet("sim", flag.ExitOnError)
	f.IntVar(&o.nodes, "nodes", 100, "how many whole nodes")
	f.IntVar(&o.members, "members", 0, "how many members there are in all: those that are no whole nodes are Serf alone")
	f.BoolVar(&o.one, "one", false, "a single whole node, in real time, which alone decides; the others are what they say")
	f.IntVar(&o.losses, "losses", 5, "how many hosts lose their power, one after the other")
	f.IntVar(&o.pods, "pods", 0, "how many pods are placed; 0: ten for each node")
	f.IntVar(&o.rounds, "rounds", 10, "how often each thing is measured")
	f.DurationVar(&o.delay, "delay", time.Millisecond, "of the network, one way")
	f.DurationVar(&o.settle, "settle", 3*time.Minute, "from when all nodes know the same until anything is measured")
	f.DurationVar(&o.rest, "rest", 3*time.Minute, "for which what is sent at rest is counted")
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

func newSaid() *said { return &said{realTime(), processorTime()} }

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

// results are what there is to draw.
type results struct {
	curves []curve
	bars   []bar
}

func (r *results) curve(name string, took samples) { r.curves = append(r.curves, curve{name, took}) }

// measure has a fleet do one thing after the other.
func measure(f *fleet, o options) (err error) {
	s := newSaid()
	var r results
	defer func() {
		if o.svg != "" {
			err = errors.Join(err, save(o, r))
		}
	}()
	members := max(o.nodes, o.members)
	if o.does("event") {
		took, err := event(f, members, 1200, o.rounds)
		if err != nil {
			return err
		}
		s.line("bare Serf event of 1,200 bytes: %s", took)
		r.curve("bare Serf event", took)
		took = modelled(members, o.delay, o.rounds, o.seed)
		s.line("the same by the model: %s", took)
	}
	if err := f.boot(); err != nil {
		return err
	}
	if err := f.bootPlain(members - o.nodes); err != nil {
		return err
	}
	late, err := until("all see each other and know the same", 20*time.Minute, f.one)
	if err != nil {
		return err
	}
	s.line("%d whole nodes of %d members, one cluster %s after the last start", o.nodes, members, late)
	time.Sleep(o.settle)
	s.line("%s later", o.settle)
	if o.does("rest") {
		is := atRest(f, o.rest)
		s.line("at rest: %s", is)
		r.bars = append(r.bars, bar{"gossip at rest", is.Gossip, 0}, bar{"streams at rest", is.Peers, 0}, bar{"both", is.Gossip + is.Peers, 2000}, bar{"with headers", is.Gossip + is.Peers + is.Headers, 0})
	}
	for _, one := range []struct {
		what, name string
		f          func() (samples, error)
	}{
		{"converge", "new manifest in force on another node", func() (samples, error) { return converge(f, o.rounds) }},
		{"bound", "new pod begins to run on another host", func() (samples, error) { return bound(f, o.rounds) }},
		{"place", fmt.Sprintf("pods of %d deployments, %d in all", deployments, o.pods), func() (samples, error) { return place(f, o.pods) }},
		{"failover", "lost host's pods run elsewhere", func() (samples, error) { return failover(f, "many0", o.losses) }},
	} {
		if !o.does(one.what) {
			continue
		}
		took, err := one.f()
		if err != nil {
			return err
		}
		s.line("%s: %s", one.name, took)
		r.curve(one.name, took)
	}
	for _, one := range []struct {
		what, name string
		f          func()
	}{
		{"loss", "a fifth of all packets lost for 5 minutes", func() {
			f.net.Lose(.2)
			time.Sleep(5 * time.Minute)
			f.net.Lose(0)
			time.Sleep(time.Minute)
		}},
		{"stop", "10 hosts silent for 5 s, one after the other", func() {
			for i := range 10 {
				f.net.Hold(f.nodes[i%len(f.nodes)].at, 5*time.Second)
				time.Sleep(20 * time.Second)
			}
		}},
	} {
		if !o.does(one.what) {
			continue
		}
		came, err := suffer(f, one.f)
		if err != nil {
			return err
		}
		s.line("%s: %s", one.name, came)
	}
	return nil
}

func save(o options, r results) error {
	w, err := os.Create(o.svg)
	if err != nil {
		return err
	}
	title := fmt.Sprintf("Shoal, %d whole nodes of %d members, simulated; virtual time, %s each way", o.nodes, max(o.nodes, o.members), o.delay)
	return errors.Join(draw(w, title, r.curves, "B/s a node", r.bars), w.Close())
}
