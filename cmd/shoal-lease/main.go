// Command shoal-lease keeps this host's lease, for pods that must never run
// twice, and is one of the cluster's witnesses where the host has a seat. shoald
// starts it (shoal-lease.service) and tells it who the others are. It is apart
// from shoald, and small, so that nothing that befalls shoald ends those pods.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/shoal-project/shoal/daemon/gate"
	"github.com/shoal-project/shoal/daemon/journal"
	"github.com/shoal-project/shoal/daemon/lease"
	"github.com/shoal-project/shoal/daemon/tenure"
	"github.com/shoal-project/shoal/daemon/warden"
)

// version is set by the build (-ldflags -X main.version=...).
var version = "0.1.0-dev"

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "shoal-lease:", err)
		os.Exit(1)
	}
}

func run(args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("shoal-lease", flag.ContinueOnError)
	flags.SetOutput(stderr)
	verbose := flags.Bool("debug", false, "log more")
	showVersion := flags.Bool("version", false, "print the version and exit")
	slice := flags.String("slice", "", "cgroup `directory` of exclusive pods (default "+sliceName+" in the host's cgroup v2 hierarchy)")
	shut := flags.Bool("shut", false, "freeze and kill all that is in the slice, and exit: for systemd, once the lease process has ended")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *showVersion {
		fmt.Println("shoal-lease", version)
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("must run as root: it freezes and kills what is in the exclusive slice")
	}
	if *slice == "" {
		*slice = findSlice()
	}
	if *shut {
		if err := gate.Slice(*slice).Shut(); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	debug.SetGCPercent(50) // a small heap target: it is one process among the host's work
	asked, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := os.MkdirAll(filepath.Dir(tenure.Socket), 0o755); err != nil {
		return err
	}
	return warden.Run(context.Background(), warden.Config{
		Leave: asked.Done(),
		Dir:   "/var/lib/shoal/witness", Socket: tenure.Socket, Session: "/run/shoal/lease.session", Slice: gate.Slice(*slice), Budget: lease.Default,
		StopPods: func(ctx context.Context) error { return stopScopes(ctx, *slice) },
		Ping:     func() { say("WATCHDOG=1") }, Ready: func() { say("READY=1") },
		Log: journal.Logger(stderr, *verbose),
	})
}

// say tells systemd (sd_notify(3)); elsewhere it does nothing.
func say(state string) { _, _ = sd.SdNotify(false, state) }

const sliceName = "shoal.slice/shoal-exclusive.slice"

// findSlice is the slice in the hierarchy that systemd uses, or in the one it
// keeps beside it where the host's controllers are in version 1.
func findSlice() string {
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
			return filepath.Join(root, sliceName)
		}
	}
	return filepath.Join("/sys/fs/cgroup", sliceName)
}

// stopScopes has systemd end the pods in the slice, as it would at a shutdown:
// the daemon, which knows better, is dead.
func stopScopes(ctx context.Context, slice string) error {
	var scopes []string
	for _, pattern := range []string{"*.scope", "*.slice/*.scope"} {
		found, err := filepath.Glob(filepath.Join(slice, pattern))
		if err != nil {
			return err
		}
		scopes = append(scopes, found...)
	}
	if len(scopes) == 0 {
		return nil
	}
	args := []string{"stop", "--"}
	for _, s := range scopes {
		args = append(args, filepath.Base(s))
	}
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl stop: %w: %s", err, out)
	}
	return nil
}
