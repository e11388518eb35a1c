package main

import (
	"fmt"
	"strings"
)

// Targets of probes, in percent of a core.
const (
	slowTarget = 1  // a probe each 10 s of each of 100 pods
	fastTarget = 10 // 500 HTTP and TCP probes a second
)

func (l Load) share() float64 { return l.Daemon.Seconds() / l.For.Seconds() }

// target is in percent of a core; 0: there is none.
func (l Load) target() float64 {
	switch {
	case l.Rate == 0:
		return 0
	case l.Rate <= float64(l.Pods)/10:
		return slowTarget
	}
	return fastTarget
}

func (r Result) writeLoads(b *strings.Builder) {
	if len(r.Loads) == 0 {
		return
	}
	fmt.Fprintf(b, "\nProbes of %d pods:\n\n", r.Loads[0].Pods)
	fmt.Fprintf(b, "| probes | a second | daemon, of a core | us a probe | children, of a core | wake-ups/s | bare connects, of a core | RSS MB |\n|---|---|---|---|---|---|---|---|\n")
	for _, l := range r.Loads {
		each, least := "", ""
		if l.Rate > 0 {
			each = fmt.Sprintf("%.0f", (l.share()-r.Loads[0].share())*1e6/l.Rate)
		}
		if l.Least > 0 {
			least = fmt.Sprintf("%.2f %%", 100*l.Least.Seconds()/l.For.Seconds())
		}
		fmt.Fprintf(b, "| %s | %g | %.2f %% | %s | %.2f %% | %.0f | %s | %s |\n", l.Name, l.Rate, 100*l.share(), each,
			100*l.Children.Seconds()/l.For.Seconds(), float64(l.Wakeups)/l.For.Seconds(), least, mb(l.Memory.RSS))
	}
}

func (r Result) writeUpdates(b *strings.Builder) {
	if len(r.Updates.Times) == 0 {
		return
	}
	s := Series{Times: r.Updates.Times}
	fmt.Fprintf(b, "\nAn edited config map, from rename() to the new bytes in a container; %d pods mount it:\n\n", r.Updates.Pods)
	fmt.Fprintf(b, "| edits | best ms | median ms | p99 ms | worst ms |\n|---|---|---|---|---|\n")
	fmt.Fprintf(b, "| %d | %s | %s | %s | %s |\n", len(s.Times), ms(s.Quantile(0)), ms(s.Quantile(0.5)), ms(s.Quantile(0.99)), ms(s.Quantile(1)))
}

func (r Result) writeScrapes(b *strings.Builder) {
	if len(r.Scrapes) == 0 {
		return
	}
	fmt.Fprintf(b, "\nOne question about the use of many pods, medians of %d:\n\n", scrapeRounds)
	fmt.Fprintf(b, "| | daemon's CPU ms | ms until answered | bytes |\n|---|---|---|---|\n")
	for _, s := range r.Scrapes {
		fmt.Fprintf(b, "| %s | %s | %s | %d |\n", s.Name, ms(s.cpu()), ms(s.took()), s.Bytes)
	}
}
