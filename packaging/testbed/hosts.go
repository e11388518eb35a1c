package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/shoal-project/shoal/packaging/testbed/agent"
	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// host finds a host in a bed, or says which there are. One inside another is OUTER/INNER.
func host(bedName, name string) (*bed.Host, error) {
	b, err := bed.Open(bedName)
	if err != nil {
		return nil, err
	}
	outer, inner, isNested := strings.Cut(name, "/")
	if isNested && b.Has(outer) && b.Host(outer).Nested() != nil {
		b, name = b.Host(outer).Nested(), inner
	}
	if !b.Has(name) {
		return nil, fmt.Errorf("bed %s has no host %q, only %s", bedName, name, strings.Join(b.HostNames(), ", "))
	}
	return b.Host(name), nil
}

func execute(name *string) *cobra.Command {
	var tty bool
	cmd := &cobra.Command{
		Use:   "exec HOST -- CMD [ARG...]",
		Short: "Run a command in a host; its exit code is this one's",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := host(*name, args[0])
			if err != nil {
				return err
			}
			command := agent.Command{Args: words(args[1:])}
			if tty {
				return interactive(cmd.Context(), h, command)
			}
			return finish(h.Stream(cmd.Context(), command, standard()))
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().BoolVarP(&tty, "tty", "t", false, "give the command a terminal")
	return cmd
}

// words are the arguments behind HOST, with or without the customary -- before them.
func words(args []string) []string {
	if len(args) > 1 && args[0] == "--" {
		return args[1:]
	}
	return args
}

func standard() agent.IO { return agent.IO{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr} }

func finish(exit int, err error) error {
	if err == nil && exit != 0 {
		return exitCode(exit)
	}
	return err
}

func interactive(ctx context.Context, h *bed.Host, command agent.Command) error {
	fd := int(os.Stdin.Fd())
	columns, rows, err := term.GetSize(fd)
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	command.TTY = &agent.Size{Rows: uint16(rows), Cols: uint16(columns)}
	command.Env = []string{"TERM=" + os.Getenv("TERM")}
	before, err := term.MakeRaw(fd)
	if err != nil {
		return err
	}
	defer term.Restore(fd, before)
	return finish(h.Stream(ctx, command, standard()))
}

func copyFiles(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "cp SRC HOST:DST | HOST:SRC DST",
		Short: "Copy a file or a directory to or from a host",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			fromHost, from, fromRemote := remote(args[0])
			toHost, to, toRemote := remote(args[1])
			if fromRemote == toRemote {
				return fmt.Errorf("one of SRC and DST must be HOST:PATH")
			}
			h, err := host(*name, fromHost+toHost)
			if err != nil {
				return err
			}
			if fromRemote {
				return h.CopyFrom(cmd.Context(), from, to)
			}
			return h.CopyTo(cmd.Context(), from, to)
		},
	}
}

// remote splits HOST:PATH. A slash at the beginning makes it a path of the machine.
func remote(arg string) (host, path string, ok bool) {
	host, path, ok = strings.Cut(arg, ":")
	if !ok || host == "" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, ".") {
		return "", arg, false
	}
	return host, path, true
}

func logs(name *string) *cobra.Command {
	var follow, console bool
	cmd := &cobra.Command{
		Use:   "logs HOST [JOURNALCTL-ARG...]",
		Short: "Show a host's journal, or its console",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := host(*name, args[0])
			if err != nil {
				return err
			}
			if console {
				_, err := os.Stdout.Write(h.Console())
				return err
			}
			command := append([]string{"journalctl", "--no-pager"}, words(args[1:])...)
			if follow {
				command = append(command, "--follow")
			}
			return finish(h.Stream(cmd.Context(), agent.Command{Args: command}, standard()))
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "show what comes as it comes")
	cmd.Flags().BoolVar(&console, "console", false, "the console instead of the journal; works when the host is off")
	return cmd
}

func cut(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "cut HOST...",
		Short: "Cut the network between these hosts and the others",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := bed.Open(*name)
			if err != nil {
				return err
			}
			return b.Cut(cmd.Context(), args...)
		},
	}
}

func heal(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "heal",
		Short: "Undo every cut",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := bed.Open(*name)
			if err != nil {
				return err
			}
			return b.Heal(cmd.Context())
		},
	}
}

func kill(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "kill HOST",
		Short: "Cut a host's power",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := host(*name, args[0])
			if err != nil {
				return err
			}
			return h.PowerCut(cmd.Context())
		},
	}
}

func start(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "start HOST",
		Short: "Boot a host that is off",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := host(*name, args[0])
			if err != nil {
				return err
			}
			return h.Start(cmd.Context())
		},
	}
}
