package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/daemon/agent"
	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/logind"
	"github.com/shoal-project/shoal/daemon/scope"
	"github.com/shoal-project/shoal/proxy/podnet"
	"github.com/shoal-project/shoal/proxy/podroute"
	"github.com/shoal-project/shoal/proxy/service"
	"github.com/shoal-project/shoal/storage/volume"
)

// Purge ends every pod of this host, without grace, and removes all that shoald
// made on it: scopes, mounts, logs, the pod network, images, its store. It
// leaves /etc/shoal alone. The packages that pods need may be gone already.
// What fails does not keep the rest from being tried; the error has all of it.
func Purge(ctx context.Context, o Options) error {
	if c, err := net.Dial("unix", o.path("run/shoal/shoal.sock")); err == nil {
		c.Close()
		return errors.New("shoald is running: stop it first")
	}
	scopes, _, err := scope.Open(ctx, scope.Options{}, o.Log)
	if err != nil {
		return err
	}
	defer scopes.Close()
	network, err := o.networkToRemove()
	if err != nil {
		network, err = nil, fmt.Errorf("the pod network may still be there: %w", err)
	}
	errs := []error{err, o.endPods(ctx, scopes, network)}
	if network != nil {
		errs = append(errs, network.Remove(ctx))
	}
	errs = append(errs, removeWays(o.Log), removeServices(o.Log))
	for _, dir := range []string{"run/shoal", "var/lib/shoal"} {
		errs = append(errs, removeContent(ctx, o.path(dir)))
	}
	errs = append(errs, logind.Forget(o.Root))
	_ = os.Remove(o.path("var/log/pods")) // unless somebody else logs there
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("something of shoald is left on this host: %w", err)
	}
	return nil
}

// networkToRemove is the pod network with whatever range it has: the configured
// one, that of the pods that are there, or any.
func (o Options) networkToRemove() (*podnet.Network, error) {
	n, dir := o.Config.Network, o.path("run/shoal/net")
	l := rangeLook{node: o.Config.Node, network: n, leased: podnet.Leased(dir)}
	claims, _, err := l.claims()
	if err != nil {
		return nil, err
	}
	return podnet.Open(podnet.Config{Bridge: n.Bridge, PodCIDRs: cidrsOf(claims), MTU: n.MTU, Dir: dir}, o.Log)
}

// removeWays takes away the devices and routes to other hosts.
func removeWays(log *slog.Logger) error {
	r, err := podroute.Open(log)
	if err != nil {
		return fmt.Errorf("routes to other hosts may still be there: %w", err)
	}
	defer r.Close()
	return r.Remove()
}

// removeServices takes away the rules that led connections to services.
func removeServices(log *slog.Logger) error {
	p, err := service.Open(service.Config{}, log)
	if err == nil {
		defer p.Close()
		err = p.Remove()
	}
	if err != nil {
		return fmt.Errorf("rules of services may still be there: %w", err)
	}
	return nil
}

// endPods takes down every pod: to an agent that knows of none, each is what
// somebody left behind.
func (o Options) endPods(ctx context.Context, scopes scope.Host, network *podnet.Network) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	runtime := &container.Runtime{
		OCI: installed(o.Config.Runtime.OCI), Conmon: installed("conmon"),
		Root: o.path("run/shoal/crun"), ExitDir: o.path("run/shoal/exits"), Log: o.Log,
	}
	if err := os.MkdirAll(runtime.ExitDir, 0o700); err != nil {
		return err
	}
	a := agent.New(ctx, agent.Config{
		Run: o.path("run/shoal/pods"), Lib: o.path("var/lib/shoal/pods"), Log: o.path("var/log/pods"),
		Scopes: scopes, Containers: runtime, Network: network, Now: o.Now, Logger: o.Log,
	})
	if err := a.Run(ctx, nil); err != nil {
		return err
	}
	stop()
	a.Wait()
	units, err := scopes.List(context.WithoutCancel(ctx))
	if err == nil && len(units) > 0 {
		err = fmt.Errorf("%d scopes can't be stopped, the first is %s", len(units), units[0].Name)
	}
	return err
}

// installed is the path of a program, or its name when it is not there.
func installed(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	return program
}

// removeContent removes a directory, but not one that is itself a mount: then
// only what is in it. Mounts below it are unmounted, never entered.
func removeContent(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		remove := os.Remove
		if e.IsDir() {
			remove = func(dir string) error { return volume.Teardown(ctx, dir) }
		}
		errs = append(errs, remove(filepath.Join(dir, e.Name())))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, unix.EBUSY) {
		return err
	}
	return nil
}
