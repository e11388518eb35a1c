package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/shoal-project/shoal/daemon/api"
)

func newStatus(n *node, streams genericiooptions.IOStreams) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "status", Short: "Show this host at a glance", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := fetch[api.Status](cmd.Context(), n, "status")
			if err != nil {
				return err
			}
			return show(streams.Out, output, s, func() { printStatus(streams.Out, s, time.Now()) })
		},
	}
	outputFlag(c, &output)
	return c
}

func printStatus(w io.Writer, s api.Status, now time.Time) {
	line := func(name, value string) { fmt.Fprintf(w, "%-12s %s\n", name+":", value) }
	line("Node", s.Node)
	line("Version", s.Version)
	if !s.Started.IsZero() {
		line("Up", duration.HumanDuration(now.Sub(s.Started)))
	}
	supervisor := s.Supervisor
	if len(s.Unenforced) > 0 {
		supervisor += " (not enforced: " + strings.Join(s.Unenforced, ", ") + ")"
	}
	line("Supervisor", supervisor)
	if s.Runtime != "" {
		line("Runtime", s.Runtime)
	}
	line("Pods", counts(s.Pods))
	line("Files", counts(s.Files))
	line("Images", fmt.Sprint(s.Images))
	if u := s.Usage; u != nil {
		line("Processor", fmt.Sprintf("%.1f of %d cores", float64(u.MilliCPU)/1000, u.CPUs))
		line("Memory", fmt.Sprintf("%.1f of %.1f GiB", gib(u.MemoryBytes), gib(u.MemoryCapacity)))
		line("Disk", fmt.Sprintf("%.1f of %.1f GiB", gib(u.DiskBytes), gib(u.DiskCapacity)))
	}
	if c := s.Cluster; c != nil {
		line("Cluster", fmt.Sprintf("%s, %d of %d members in sight", c.ID, c.Alive, c.Members))
		for _, p := range c.Problems {
			line("Cluster", "PROBLEM "+p)
		}
	}
	if l := s.Lease; l != nil {
		line("Lease", leaseLine(*l))
	}
	for _, c := range s.Conditions {
		mark := "ok"
		if !c.OK {
			mark = "PROBLEM"
		}
		line(c.Type, strings.TrimSpace(mark+" "+c.Message))
	}
}

func gib(bytes uint64) float64 { return float64(bytes) / (1 << 30) }

// counts is "3 Running, 1 Pending".
func counts(m map[string]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", m[k], k))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// leaseLine is how the host's lease stands.
func leaseLine(l api.StatusLease) string {
	switch {
	case l.Problem != "":
		return "PROBLEM exclusive work waits: " + l.Problem
	case l.Leader == "":
		return fmt.Sprintf("epoch %d; no witness answers now", l.Epoch)
	}
	return fmt.Sprintf("epoch %d; node %s leads %d witnesses", l.Epoch, l.Leader, l.Witnesses)
}
