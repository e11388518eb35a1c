// Command shoald runs the pods that this host's files declare.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/shoal-project/shoal/daemon"
	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/journal"
)

// version is set by the build (-ldflags -X main.version=...).
var version = "0.1.0-dev"

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "shoald:", err)
		os.Exit(1)
	}
}

func run(args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("shoald", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("config", "", "configuration `file` (default "+config.Path+", which may be missing)")
	check := flags.Bool("check", false, "read the configuration, say what is wrong with it, and exit")
	purge := flags.Bool("purge", false, "end every pod of this host, remove all that shoald made, and exit; /etc/shoal stays")
	witness := flags.Bool("witness", false, "run no pods: this host is there for exclusive work's majority (lease.only_witness)")
	verbose := flags.Bool("debug", false, "log more")
	showVersion := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *showVersion {
		fmt.Println("shoald", version)
		return nil
	}
	path, required := config.Path, false
	if *file != "" {
		path, required = *file, true
	}
	cfg, err := config.Read(path, required)
	if err != nil || *check {
		return err
	}
	read := func() (*config.Config, error) {
		c, err := config.Read(path, required)
		if err == nil && *witness {
			c.RunNoPods()
		}
		return c, err
	}
	if cfg, err = read(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("must run as root: it mounts, makes namespaces and cgroups")
	}
	// A small heap target: the daemon is one process among the host's work.
	debug.SetGCPercent(50)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	options := daemon.Options{
		Root: "/", Config: cfg, Version: version, Now: time.Now, Log: journal.Logger(stderr, *verbose),
		Reload: read,
	}
	if *purge {
		return daemon.Purge(ctx, options)
	}
	return daemon.Run(ctx, options)
}
