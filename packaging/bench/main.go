// Command bench measures Shoal beside crun, systemd-run and podman, in one run on one host, and prints the tables of
// docs/benchmarks.md.
//
// The host is a light one of the test-bed, so systemd is real and limits are not enforced. Contenders take turns, in
// another order each round: on a busy machine only their ratios mean something.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// plan is how much is measured.
type plan struct {
	Rounds int           // starts of one pod, for each contender
	Pods   int           // at once
	Bursts int           // how often that many are started at once
	Calls  int           // to the API
	Idle   time.Duration // for which the idle daemon is watched
	Podman bool          // take part
	Probed int           // pods that are probed, and asked for their use
	Only   []string      // parts to measure; nil: all
}

// Parts of the measurement, in their order.
const (
	partStarts  = "starts"  // one pod
	partBursts  = "bursts"  // many at once
	partRest    = "rest"    // the idle daemon, and what is around pods
	partProbes  = "probes"  // the daemon's processor time
	partUpdates = "updates" // of configuration that is mounted
	partScrapes = "scrapes" // and other questions about use
)

var parts = []string{partStarts, partBursts, partRest, partProbes, partUpdates, partScrapes}

// has says whether one of these parts is to be measured.
func (p plan) has(some ...string) bool {
	return len(p.Only) == 0 || slices.ContainsFunc(some, func(part string) bool { return slices.Contains(p.Only, part) })
}

// only takes a list of parts.
func (p *plan) only(list string) error {
	for part := range strings.SplitSeq(list, ",") {
		if !slices.Contains(parts, part) {
			return fmt.Errorf("no part is called %q: want some of %s", part, strings.Join(parts, ","))
		}
		p.Only = append(p.Only, part)
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	// This program is also the one that measures, in the host.
	measuring := len(args) > 0 && args[0] == "measure"
	if measuring {
		args = args[1:]
	}
	var p plan
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&p.Rounds, "rounds", 100, "starts of one pod, for each contender")
	flags.IntVar(&p.Pods, "pods", 50, "pods that are started at once")
	flags.IntVar(&p.Bursts, "bursts", 3, "how often that many are started at once")
	flags.IntVar(&p.Calls, "calls", 1000, "calls to the API")
	flags.DurationVar(&p.Idle, "idle", time.Minute, "for how long the idle daemon is watched")
	flags.BoolVar(&p.Podman, "podman", true, "measure podman too; its packages are downloaded with apt")
	flags.IntVar(&p.Probed, "probed", 100, "pods that are probed, and asked for their use")
	flags.Func("only", "measure these `parts` of "+strings.Join(parts, ",")+" (default all)", p.only)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if !p.has(partStarts, partBursts, partRest) {
		p.Podman = false // it has no part in the others
	}
	if measuring {
		return measure(ctx, p)
	}
	return inBed(ctx, p, args)
}
