package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Result is all that was measured. String is the report.
type Result struct {
	Machine               string
	LoadBefore, LoadAfter string
	Pods                  int      // of a burst
	Starts                []Series // of one pod
	Bursts                []Series // of Pods
	Idle                  [2]Idle  // with no pods, and with Pods
	Calls                 int      // after which Used was measured
	Used                  Memory
	Around                []Around
	Loads                 []Load
	Updates               Updates
	Scrapes               []Scrape
}

// Series is one contender's times.
type Series struct {
	Name  string
	Times []time.Duration
}

// Memory is a process's, in bytes.
type Memory struct{ RSS, Anonymous, PSS int64 }

// Idle is a daemon that was left alone.
type Idle struct {
	Pods    int
	For     time.Duration
	CPU     time.Duration
	Wakeups int64
	Threads int
	Memory  Memory
}

// Around is the PSS of each pod outside its own processes, in bytes.
type Around struct {
	Name string
	PSS  int64
}

// Quantile is the smallest time that is not below a part q of all.
func (s Series) Quantile(q float64) time.Duration {
	if len(s.Times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s.Times))
	i := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

func median(all []Series, name string) time.Duration {
	for _, s := range all {
		if s.Name == name {
			return s.Quantile(0.5)
		}
	}
	return 0
}

// String is the report in Markdown.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; load %s before, %s after.\n", r.Machine, r.LoadBefore, r.LoadAfter)
	if len(r.Starts) > 0 {
		r.writeStarts(&b)
	}
	if len(r.Bursts) > 0 {
		r.writeBursts(&b)
	}
	if r.Idle[1].For > 0 {
		r.writeIdle(&b)
	}
	r.writeLoads(&b)
	r.writeUpdates(&b)
	r.writeScrapes(&b)
	r.writeTargets(&b)
	return b.String()
}

func (r Result) writeStarts(b *strings.Builder) {
	fmt.Fprintf(b, "\nOne pod, from the request to the first instruction:\n\n")
	fmt.Fprintf(b, "| | rounds | best ms | median ms | p99 ms | times the baseline |\n|---|---|---|---|---|---|\n")
	for _, s := range r.Starts {
		fmt.Fprintf(b, "| %s | %d | %s | %s | %s | %s |\n", s.Name, len(s.Times), ms(s.Quantile(0)), ms(s.Quantile(0.5)), ms(s.Quantile(0.99)),
			ratio(s.Quantile(0.5), median(r.Starts, nameBaseline)))
	}
}

func (r Result) writeBursts(b *strings.Builder) {
	fmt.Fprintf(b, "\n%d pods at once, until the last one's first instruction:\n\n", r.Pods)
	fmt.Fprintf(b, "| | rounds | median s | pods/s | of the baseline |\n|---|---|---|---|---|\n")
	for _, s := range r.Bursts {
		took := s.Quantile(0.5)
		fmt.Fprintf(b, "| %s | %d | %.2f | %.1f | %s |\n", s.Name, len(s.Times), took.Seconds(), float64(r.Pods)/took.Seconds(),
			ratio(median(r.Bursts, nameBaseline), took))
	}
}

func (r Result) writeIdle(b *strings.Builder) {
	fmt.Fprintf(b, "\nThe idle daemon:\n\n")
	fmt.Fprintf(b, "| pods | RSS MB | anonymous MB | PSS MB | CPU of a core | wake-ups/s | threads |\n|---|---|---|---|---|---|---|\n")
	for _, i := range r.Idle {
		fmt.Fprintf(b, "| %d | %s | %s | %s | %.3f %% | %.1f | %d |\n", i.Pods, mb(i.Memory.RSS), mb(i.Memory.Anonymous), mb(i.Memory.PSS),
			100*i.share(), float64(i.Wakeups)/i.For.Seconds(), i.Threads)
	}
	fmt.Fprintf(b, "| %d, after %d API calls | %s | %s | %s | | | |\n", r.Idle[1].Pods, r.Calls, mb(r.Used.RSS), mb(r.Used.Anonymous), mb(r.Used.PSS))
	fmt.Fprintf(b, "\nPSS of each pod outside its own processes, %d pods of one container:\n\n| | MB |\n|---|---|\n", r.Pods)
	for _, a := range r.Around {
		fmt.Fprintf(b, "| %s | %.2f |\n", a.Name, float64(a.PSS)/1e6)
	}
}

func (i Idle) share() float64 { return i.CPU.Seconds() / i.For.Seconds() }

func (r Result) writeTargets(b *strings.Builder) {
	fmt.Fprintf(b, "\n| target | measured | |\n|---|---|---|\n")
	line := func(what string, got, most float64, unit string) {
		verdict := "met"
		if got > most {
			verdict = "**missed**"
		}
		fmt.Fprintf(b, "| %s: at most %.3g%s | %.3g%s | %s |\n", what, most, unit, got, unit, verdict)
	}
	if len(r.Starts) > 0 {
		shoal, baseline := median(r.Starts, nameShoal), median(r.Starts, nameBaseline)
		line("one pod, times the baseline", quotient(shoal, baseline), 2, "")
		if p := median(r.Starts, namePodman); p > 0 {
			line("one pod, parts of podman kube play", quotient(shoal, p), 0.125, "")
		}
	}
	if len(r.Bursts) > 0 {
		line(fmt.Sprintf("%d pods, times the baseline's time (0.7 of its pods/s)", r.Pods),
			quotient(median(r.Bursts, nameShoal), median(r.Bursts, nameBaseline)), 1/0.7, "")
	}
	if r.Idle[1].For > 0 {
		line(fmt.Sprintf("RSS of the idle daemon with %d pods", r.Idle[1].Pods), float64(r.Idle[1].Memory.RSS)/1e6, 40, " MB")
		line(fmt.Sprintf("anonymous memory after %d API calls", r.Calls), float64(r.Used.Anonymous)/1e6, 25, " MB")
		line("CPU of the idle daemon", 100*r.Idle[1].share(), 0.1, " %")
	}
	if len(r.Around) > 0 {
		line("PSS of a pod outside its own processes", float64(r.Around[0].PSS)/1e6, 1.5, " MB")
	}
	for _, l := range r.Loads {
		if most := l.target(); most > 0 {
			line(fmt.Sprintf("CPU of the daemon, %d pods, probes: %s", l.Pods, l.Name), 100*l.share(), most, " %")
		}
	}
	if len(r.Updates.Times) > 0 {
		line("update of a mounted config map, p99", Series{Times: r.Updates.Times}.Quantile(0.99).Seconds(), 1, " s")
	}
}

// quotient is infinite, and so misses every target, if there is nothing to compare with.
func quotient(a, b time.Duration) float64 {
	if b == 0 {
		return math.Inf(1)
	}
	return float64(a) / float64(b)
}

func ratio(a, b time.Duration) string { return fmt.Sprintf("%.2f", quotient(a, b)) }
func ms(d time.Duration) string       { return fmt.Sprintf("%.1f", d.Seconds()*1e3) }
func mb(bytes int64) string           { return fmt.Sprintf("%.1f", float64(bytes)/1e6) }
