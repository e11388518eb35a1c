package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/shoal-project/shoal/daemon/tenure"
)

// leaseTime is how long the lease process may take: longer than an election.
const leaseTime = 15 * time.Second

func newLease(streams genericiooptions.IOStreams) *cobra.Command {
	var output, socket string
	c := &cobra.Command{
		Use: "lease", Short: "Show who holds exclusive work, and the witnesses", Args: cobra.NoArgs,
		Long: "Show which nodes have a lease, who holds what, and who the witnesses are. It asks this host's lease process\n" +
			"(shoal-lease.service), which runs whether shoald does or not; root may.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), leaseTime)
			defer cancel()
			r, err := tenure.NewClient(socket).Report(ctx)
			if err != nil {
				return leaseError(err)
			}
			return show(streams.Out, output, r, func() { printLease(streams.Out, r, time.Now()) })
		},
	}
	outputFlag(c, &output)
	leaseSocket(c, &socket)
	return c
}

func leaseSocket(c *cobra.Command, socket *string) {
	c.Flags().StringVar(socket, "lease-socket", tenure.Socket, "the lease process' `socket`")
}

func leaseError(err error) error {
	switch {
	case errors.Is(err, tenure.ErrNotRunning):
		return fmt.Errorf("%w: shoald starts it where the host has others, or an exclusive pod (docs/lease.md)", err)
	case errors.Is(err, fs.ErrPermission):
		return errors.New("no permission to ask the lease process: use sudo")
	}
	return err
}

func printLease(w io.Writer, r tenure.Report, now time.Time) {
	if r.Problem != "" {
		fmt.Fprintf(w, "PROBLEM: node %s has no lease: %s\n\n", r.Node, r.Problem)
	}
	switch {
	case len(r.Seats) == 0:
		fmt.Fprintln(w, "No witness answers, and this host is none.")
		return
	case r.Leader == "":
		fmt.Fprintf(w, "No witness leads. What follows is what node %s knew last.\n\n", r.Node)
	case r.Closed:
		fmt.Fprint(w, "The witnesses were recovered, and grant nothing before all leases that they may not know of have run out.\n\n")
	}
	rows := [][]string{{"WITNESS", "STATE", "STORE"}}
	for _, s := range r.Seats {
		rows = append(rows, []string{s.Node, seatState(s, r.Leader != ""), s.Store})
	}
	columns(w, rows)
	rows = [][]string{{"NODE", "EPOCH", "LEASE", "SINCE"}}
	for _, n := range r.Nodes {
		state := "until " + ahead(n.Until, now)
		switch {
		case n.Over:
			state = "over"
		case n.Until == "":
			state = "not known"
		}
		rows = append(rows, []string{n.Node, strconv.FormatUint(n.Epoch, 10), state, ago(n.Since, now)})
	}
	fmt.Fprintln(w)
	columns(w, rows)
	if len(r.Claims) == 0 {
		fmt.Fprintln(w, "\nNothing is claimed.")
		return
	}
	rows = [][]string{{"CLAIM", "NODE", "EPOCH", "TOKEN", "SINCE"}}
	for _, c := range r.Claims {
		node := c.Node
		if c.Pinned {
			node += " (pinned)"
		}
		rows = append(rows, []string{c.Key, node, strconv.FormatUint(c.Epoch, 10), strconv.FormatUint(c.Token, 10), ago(c.Since, now)})
	}
	fmt.Fprintln(w)
	columns(w, rows)
}

func seatState(s tenure.Seat, led bool) string {
	var words []string
	switch {
	case s.Leads:
		words = append(words, "leads")
	case !led:
		words = append(words, "not known")
	case s.Answers:
		words = append(words, "follows")
	default:
		words = append(words, "silent")
	}
	if !s.Votes {
		words = append(words, "no vote yet")
	}
	return strings.Join(words, ", ")
}

func ago(stamp string, now time.Time) string {
	t, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return "-"
	}
	return duration.HumanDuration(now.Sub(t)) + " ago"
}

func ahead(stamp string, now time.Time) string {
	t, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return "-"
	}
	return fmt.Sprintf("%s (%s)", t.Format("15:04:05 MST"), duration.HumanDuration(t.Sub(now)))
}

// recoverRisk is what a recovery may do, for a person to decide.
const recoverRisk = `This host goes on as the ONLY witness, with what it knows. Do it only when the majority of the witnesses is lost for ever.

- The other witnesses must be OFF and stay off, their lease processes too: hosts that are only cut off go on granting, and
  then the same pod runs twice, which may destroy its data.
- What the others granted last may not be known here.
- Every lease ends: all exclusive pods that are not pinned are killed, and start anew after a minute.
`

func newWitness(streams genericiooptions.IOStreams) *cobra.Command {
	c := &cobra.Command{Use: "witness", Short: "Manage the witnesses of exclusive work"}
	c.AddCommand(newWitnessRecover(streams))
	return c
}

func newWitnessRecover(streams genericiooptions.IOStreams) *cobra.Command {
	var yes bool
	var socket string
	c := &cobra.Command{
		Use: "recover", Short: "Go on from this host alone when the majority of the witnesses is lost for ever", Args: cobra.NoArgs,
		Long: recoverRisk,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), leaseTime)
			defer cancel()
			client := tenure.NewClient(socket)
			r, err := client.Report(ctx)
			if err != nil {
				return leaseError(err)
			}
			fmt.Fprint(streams.ErrOut, recoverRisk+"\n")
			if r.Leader != "" {
				return fmt.Errorf("the witnesses have a majority, and node %s leads them: there is nothing to recover", r.Leader)
			}
			if !yes && !confirmed(streams, r) {
				return errors.New("nothing was changed")
			}
			ctx, cancel = context.WithTimeout(cmd.Context(), leaseTime)
			defer cancel()
			if err := client.Recover(ctx); err != nil {
				return leaseError(err)
			}
			fmt.Fprintln(streams.Out, "This host is the only witness now; others are taken in as they come. Leases are given in about a minute: see `shoal lease`.")
			return nil
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it without asking")
	leaseSocket(c, &socket)
	return c
}

// confirmed asks a person to write the node's name.
func confirmed(streams genericiooptions.IOStreams, r tenure.Report) bool {
	var others []string
	for _, s := range r.Seats {
		if s.Node != r.Node {
			others = append(others, s.Node)
		}
	}
	fmt.Fprintf(streams.ErrOut, "The others are %s. If they are off, write this node's name (%s) to go on: ", strings.Join(others, ", "), r.Node)
	line, err := bufio.NewReader(streams.In).ReadString('\n')
	return (err == nil || errors.Is(err, io.EOF)) && strings.TrimSpace(line) == r.Node
}
