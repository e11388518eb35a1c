// Command testbed makes hosts to test Shoal on. Package bed says what they are.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/shoal-project/shoal/packaging/testbed/agent"
	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// exitCode is an exit code that a command in a host ended with.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	var code exitCode
	switch {
	case errors.As(err, &code):
		os.Exit(int(code))
	case err != nil:
		fmt.Fprintln(os.Stderr, "testbed:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	cmd := &cobra.Command{
		Use:           "testbed",
		Short:         "Hosts to test Shoal on, made from Debian's packages",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	name := cmd.PersistentFlags().StringP("bed", "b", "default", "the bed's name; several run side by side")
	cmd.AddCommand(up(name, log), list(), down(name), collect(), deps(),
		execute(name), copyFiles(name), logs(name), cut(name), heal(name), kill(name), start(name),
		supervise(log), inside(log), serve(log))
	return cmd
}

func up(name *string, log *slog.Logger) *cobra.Command {
	var hosts, nested int
	var smp string
	var full bool
	var images, packages []string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Make a bed and leave it running",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := bed.Config{Hosts: hosts, Name: *name, Detached: true, Log: log, Images: images, Packages: packages, Nested: nested, SMP: smp}
			if slices.Equal(images, []string{"all"}) {
				c.Images = bed.ImageNames()
			}
			if full {
				c.Kind = bed.Full
			}
			b, err := bed.Up(cmd.Context(), c)
			if err != nil {
				return err
			}
			return print(cmd.Context(), b)
		},
	}
	cmd.Flags().IntVar(&hosts, "hosts", 1, "how many hosts: n1, n2, ...")
	cmd.Flags().StringVar(&smp, "smp", "", "a full host's processors as QEMU's -smp has them, for example 4,threads=2")
	cmd.Flags().IntVar(&nested, "nested", 0, "how many light hosts inside each full one: n1/n1, n1/n2, ...")
	cmd.Flags().StringSliceVar(&images, "images", nil,
		"serve these images at 10.99.0.1:5000: all, or some of "+strings.Join(bed.ImageNames(), ", "))
	cmd.Flags().StringSliceVar(&packages, "packages", nil, "Debian packages on light hosts besides what all have")
	cmd.Flags().BoolVar(&full, "full", false, "QEMU hosts with their own kernel instead of light ones")
	return cmd
}

func print(ctx context.Context, b *bed.Bed) error {
	states, err := b.States(ctx)
	if err != nil {
		return err
	}
	for _, s := range states {
		running := "off"
		if s.Running {
			running = "running"
		}
		fmt.Printf("%s\t%s\t%s\t%s\t%s\n", b.Name(), s.Name, s.Addr, s.Kind, running)
	}
	return nil
}

func list() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List beds and their hosts",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := bed.Beds()
			for _, name := range names {
				b, openErr := bed.Open(name)
				if openErr == nil {
					openErr = print(cmd.Context(), b)
				}
				err = errors.Join(err, openErr)
			}
			return err
		},
	}
}

func down(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End a bed; nothing of it stays",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b, err := bed.Open(*name)
			if err != nil {
				return err
			}
			return b.Down()
		},
	}
}

func collect() *cobra.Command {
	return &cobra.Command{
		Use:   "gc",
		Short: "Remove what beds left whose supervisor was killed",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return bed.Collect(cmd.Context()) },
	}
}

func deps() *cobra.Command {
	return &cobra.Command{
		Use:   "deps",
		Short: "Install with apt what this machine lacks to have beds",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return bed.InstallTools(cmd.Context()) },
	}
}

// The commands below are the test-bed's own processes.

func supervise(log *slog.Logger) *cobra.Command {
	var owned bool
	cmd := &cobra.Command{
		Use:    "supervise DIR",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(_ *cobra.Command, args []string) error { return bed.Supervise(args[0], owned, log) },
	}
	cmd.Flags().BoolVar(&owned, "lifeline", false, "end with standard input")
	return cmd
}

func inside(log *slog.Logger) *cobra.Command {
	return &cobra.Command{
		Use:    "inside DIR CGROUP...",
		Hidden: true,
		Args:   cobra.RangeArgs(2, 3),
		RunE:   func(_ *cobra.Command, args []string) error { return bed.Inside(args[0], args[1:], log) },
	}
}

func serve(log *slog.Logger) *cobra.Command {
	return &cobra.Command{
		Use:    "agent",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			signal.Reset(syscall.SIGTERM) // the host's systemd ends the agent; there is nothing to tidy
			if _, err := os.Stat(bed.AgentPort); err == nil {
				return agent.Port(bed.AgentPort, log)
			}
			l, err := net.Listen("unix", bed.AgentSocket)
			if err != nil {
				return err
			}
			return agent.Serve(l, log)
		},
	}
}
