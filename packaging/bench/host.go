package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/shoal-project/shoal/packaging/testbed/agent"
	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// work is where everything of the benchmark lies in the host.
const work = "/srv/bench"

// inBed makes a host, puts Shoal and its rivals on it and has them measured there.
func inBed(ctx context.Context, p plan, args []string) error {
	dir, err := os.MkdirTemp("", "shoal-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := build(ctx, dir); err != nil {
		return err
	}
	b, err := bed.Up(ctx, bed.Config{})
	if err != nil {
		return err
	}
	defer b.Down()
	h := b.Host("n1")
	if p.Podman {
		if err := installPodman(ctx, h, dir); err != nil {
			return fmt.Errorf("install podman: %w", err)
		}
	}
	if err := furnish(ctx, h, dir); err != nil {
		return err
	}
	// The contenders get the limits that shoald has.
	limits := append(append([]string{"systemd-run", "--pipe", "--wait", "--quiet", "--collect"}, daemonLimits...), work+"/bench", "measure")
	exit, err := h.Stream(ctx, agent.Command{Args: append(limits, args...)},
		agent.IO{Stdout: os.Stdout, Stderr: os.Stderr})
	if err == nil && exit != 0 {
		err = errors.New("the measurement failed")
	}
	return errors.Join(err, b.Down())
}

// daemonLimits are those of the daemon's unit.
var daemonLimits = []string{"--property=LimitMEMLOCK=infinity", "--property=LimitNOFILE=1048576", "--property=TasksMax=infinity"}

// build makes the programs that run in the host; all are static but memlock.so.
func build(ctx context.Context, dir string) error {
	const module = "github.com/shoal-project/shoal/"
	for _, args := range [][]string{
		{"go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir + "/shoald", module + "cmd/shoald"},
		{"go", "build", "-o", dir + "/bench", module + "packaging/bench"},
		{"cc", "-static", "-O2", "-o", dir + "/first", "packaging/bench/first/first.c"},
		{"cc", "-static", "-O2", "-o", dir + "/served", "packaging/bench/served/served.c"},
		{"cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-O2", "-o", dir + "/memlock.so", "packaging/bench/memlock/memlock.c"},
	} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// furnish puts the programs and a root with nothing but the first one in place, and starts the daemon.
func furnish(ctx context.Context, h *bed.Host, dir string) error {
	if _, err := h.Shell(ctx, `cd "$(mkdir -p "$1" && echo "$1")" && mkdir -p out rootfs/proc rootfs/sys rootfs/dev rootfs/etc rootfs/out`, work); err != nil {
		return err
	}
	for from, to := range map[string]string{
		"shoald": "/usr/bin/shoald", "bench": work + "/bench", "first": work + "/rootfs/first",
		"served": work + "/rootfs/served", "memlock.so": work + "/memlock.so",
	} {
		if err := h.CopyTo(ctx, filepath.Join(dir, from), to); err != nil {
			return err
		}
	}
	if _, err := h.Shell(ctx, `echo "$1/memlock.so" > /etc/ld.so.preload`, work); err != nil {
		return err
	}
	unit := append([]string{"systemd-run", "--unit=shoald", "--property=Type=notify", "--property=KillMode=process"}, daemonLimits...)
	_, err := h.Run(ctx, append(unit, "/usr/bin/shoald")...)
	return err
}

// installPodman downloads what the host lacks for podman, which has no way out to Debian's mirror, and installs it there.
func installPodman(ctx context.Context, h *bed.Host, dir string) error {
	status, err := h.Run(ctx, "cat", "/var/lib/dpkg/status")
	if err != nil {
		return err
	}
	debs := filepath.Join(dir, "debs")
	if err := os.MkdirAll(filepath.Join(debs, "partial"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "status"), []byte(status+"\n"), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "apt-get", "-qq", "-y", "--no-install-recommends", "--download-only",
		"-o", "Dir::State::status="+filepath.Join(dir, "status"), "-o", "Dir::Cache::archives="+debs+"/",
		"-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root",
		"install", "podman", "netavark", "aardvark-dns", "iptables")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := h.CopyTo(ctx, debs, "/root/"); err != nil {
		return err
	}
	_, err = h.Shell(ctx, `DEBIAN_FRONTEND=noninteractive dpkg -i /root/debs/*.deb; rm -r /root/debs`)
	return err
}
