package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/scope"
	"github.com/shoal-project/shoal/storage/volume"
)

// Found is the pods that an earlier daemon left running on this host, as it
// last knew them. On ErrNewerState, or where a state can't be read from disk,
// nothing must be done to them: end, and let somebody look.
func (a *Agent) Found() ([]*v1.Pod, error) {
	entries, err := os.ReadDir(a.cfg.Run)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for running pods: %w", err)
	}
	var pods []*v1.Pod
	for _, e := range entries {
		s, err := readState(filepath.Join(a.cfg.Run, e.Name()))
		ioError := errors.As(err, new(*fs.PathError)) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
		if errors.Is(err, ErrNewerState) || ioError {
			return nil, fmt.Errorf("look for running pods: %w", err)
		}
		if err != nil {
			a.log.Warn("a pod's directory can't be read: what is left of it will be removed", "dir", e.Name(), "err", err)
			continue
		}
		pods = append(pods, s.Pod)
	}
	return pods, nil
}

// Run begins to watch for ends of processes, takes down what belongs to none of
// the pods, and rotates logs until the context ends. Call it once, before Sync.
func (a *Agent) Run(ctx context.Context, pods []*v1.Pod) error {
	ends, err := watchProcesses(a.poke)
	if err != nil {
		return err
	}
	a.ends = ends
	exits := func(id string) {
		if len(id) > 36 { // NAME-NUMBER-UID
			a.poke(types.UID(id[len(id)-36:]))
		}
	}
	a.wait.Go(func() {
		if err := a.cfg.Containers.WatchExits(ctx, exits); err != nil && ctx.Err() == nil {
			a.log.Error("can't watch for ends of containers: they are noticed by their processes alone", "err", err)
		}
	})
	a.wait.Go(func() { a.prober.Run(ctx) })
	a.restoreCores(pods)
	a.restoreClaims(pods)
	if err := a.sweep(ctx, pods); err != nil && ctx.Err() == nil {
		// What could not be removed harms no pod; it is tried again at the next start.
		a.log.Error("can't remove all that is left of former pods", "err", err)
	}
	a.users.load() // after the sweep: what it could not remove keeps its IDs
	a.wait.Go(func() {
		tick := time.NewTicker(10 * time.Second)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				a.rotateLogs(now)
			case <-ctx.Done():
				return
			}
		}
	})
	return nil
}

// sweep takes down what belongs to no pod.
func (a *Agent) sweep(ctx context.Context, pods []*v1.Pod) error {
	known := make(map[string]bool)
	units := make(map[string]bool)
	logs := make(map[string]bool)
	for _, p := range pods {
		known[string(p.UID)] = true
		units[scope.UnitName(p.Namespace, p.Name, string(p.UID))] = true
		logs[filepath.Base(a.LogDir(p))] = true
	}
	var errs []error
	for _, uid := range unknown(a.cfg.Run, known) {
		p := &v1.Pod{}
		p.UID = types.UID(uid)
		if s, err := readState(filepath.Join(a.cfg.Run, uid)); err == nil {
			p = s.Pod
		}
		a.log.Info("taking down what is left of a pod", "uid", uid, "pod", p.Namespace+"/"+p.Name)
		errs = append(errs, a.takeDown(ctx, p, ""), os.RemoveAll(filepath.Join(a.cfg.Run, uid)))
	}
	scopes, err := a.cfg.Scopes.List(ctx)
	errs = append(errs, err)
	for _, u := range scopes {
		if !units[u.Name] {
			a.log.Info("stopping a scope that belongs to no pod", "unit", u.Name)
			errs = append(errs, a.cfg.Scopes.Stop(ctx, u.Name))
		}
	}
	orphans, err := container.FindOrphans(a.cfg.Run)
	errs = append(errs, err)
	for _, o := range orphans {
		if !known[filepath.Base(o.Dir)] {
			errs = append(errs, container.StopSandbox(o.Dir))
		}
	}
	if n := a.network(); n != nil {
		_, err := n.Sweep(ctx, known)
		errs = append(errs, err)
	}
	for _, uid := range unknown(a.cfg.Lib, known) {
		errs = append(errs, volume.Teardown(ctx, filepath.Join(a.cfg.Lib, uid)))
	}
	for _, dir := range unknown(a.cfg.Log, logs) {
		if ownLogs(dir) {
			errs = append(errs, os.RemoveAll(filepath.Join(a.cfg.Log, dir)))
		}
	}
	return errors.Join(errs...)
}

// ownLogs says whether a directory of logs is a pod's of ours. Other kubelets
// log here too, to NAMESPACE_NAME_UID as we do; but their UIDs are random (UUID
// version 4), or 32 digits without dashes for static pods, and ours are of
// version 8 (daemon/view.UID).
func ownLogs(dir string) bool {
	parts := strings.Split(dir, "_")
	id, err := uuid.Parse(parts[len(parts)-1])
	return err == nil && len(parts) == 3 && id.Version() == 8 && parts[2] == id.String()
}

// unknown are the entries of dir that are not known.
func unknown(dir string, known map[string]bool) []string {
	return slices.DeleteFunc(subdirectories(dir), func(name string) bool { return known[name] })
}

// complain logs what failed, unless it was called off because the daemon ends.
func (w *worker) complain(ctx context.Context, message string, args ...any) {
	if ctx.Err() == nil {
		w.agent.log.Error(message, append([]any{"pod", w.name()}, args...)...)
	}
}

// recover takes up a pod where an earlier daemon left it.
func (w *worker) recover(ctx context.Context) {
	s, err := readState(w.dir())
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			w.complain(ctx, "a pod's state is lost: what runs of it is ended", "err", err)
		}
		w.recoverFromStatus(ctx)
		return
	}
	if s.Containers == nil {
		s.Containers = make(map[string]*containerState)
	}
	w.state = *s
	w.seen.Ending = s.Ending
	w.recoverResources(s.Pod)
	w.seen.Sandbox.Present = true
	for name, cs := range s.Containers {
		w.recoverContainer(ctx, name, cs)
	}
	if err := w.agent.removeAttempts(ctx, w.uid, w.runs()); err != nil {
		w.complain(ctx, "can't clean up after former containers", "err", err)
	}
	w.sandbox, err = container.ReadSandbox(w.dir())
	if err == nil && s.Ready && w.sandbox.Alive() && w.scopeLives(ctx) {
		w.seen.Sandbox.Ready, w.seen.Sandbox.IPs = true, s.IPs
		w.agent.ends.add(w.sandbox.PID, w.uid)
		w.reattach(ctx)
		some := len(w.pod.Spec.Volumes) > 0
		w.seen.Volumes.Stale, w.seen.Volumes.Missing = some, some // they are looked for before anything starts
	}
	w.save()
}

// reattach makes sure that a running pod's addresses and host ports work: the
// network finds what is there and repairs what is not.
func (w *worker) reattach(ctx context.Context) {
	if !w.seen.Sandbox.Ready || w.pod.Spec.HostNetwork {
		return
	}
	ips, err := w.job().attach(ctx, w.sandbox)
	if err != nil {
		if !w.sandbox.Alive() {
			return // it ended meanwhile, and is made anew
		}
		w.complain(ctx, "can't repair a pod's network", "err", err)
		return
	}
	w.state.IPs, w.seen.Sandbox.IPs = ips, ips
}

// Reattach repairs the network of a pod's sandbox.
func (a *Agent) Reattach(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.workers[uid]; w != nil {
		w.send(func() { w.reattach(a.ctx) })
	}
}

// scopeLives says whether the pod's scope is still there: somebody may have
// stopped it while no daemon ran.
func (w *worker) scopeLives(ctx context.Context) bool {
	units, err := w.agent.cfg.Scopes.List(ctx)
	if err != nil {
		w.complain(ctx, "can't list scopes", "err", err)
		return true
	}
	return scope.IsNone(w.agent.cfg.Scopes) || // it knows no scopes
		slices.ContainsFunc(units, func(u scope.Unit) bool { return u.Name == w.state.Unit && u.Active })
}

// recoverContainer finds a container's newest run again. One that was being
// made when the daemon died counts if it was started, and is removed if not.
func (w *worker) recoverContainer(ctx context.Context, name string, cs *containerState) {
	if a := cs.Starting; a != nil {
		found, err := w.agent.cfg.Containers.Read(w.bundle(name, a.Number))
		if err == nil && (found.Phase == container.Running || found.Phase == container.Exited) && !found.StartedAt.IsZero() {
			if cs.Current != nil && cs.Current.Number != a.Number {
				cs.Last = pod.Terminated(cs.Current)
				cs.Backoff = cs.Backoff.Restarted(cs.Current.Finished, found.StartedAt)
			}
			a.Started = found.StartedAt
			cs.Current = a
		} else if err := w.agent.removeAttempt(ctx, w.uid, name, a.Number); err != nil {
			w.complain(ctx, "can't clean up after a container", "container", name, "err", err)
		}
		cs.Starting = nil
	}
	if a := cs.Current; a != nil && a.State != pod.Exited {
		a.Killed = false // it can be sent again, and perhaps never was
		seedProbes(a, slices.Concat(w.status.InitContainerStatuses, w.status.ContainerStatuses), name)
	}
	c := pod.Container{Current: cs.Current, Last: cs.Last, Backoff: cs.Backoff}
	if c.Current != nil {
		c.Image = c.Current.ImageID
	}
	w.seen.Containers[name] = c
	if a := c.Current; a != nil && a.State == pod.Running {
		w.watchContainer(name, a.Number)
	}
}

// runs are the runs of containers that have not ended.
func (w *worker) runs() map[string]int {
	runs := make(map[string]int)
	for name, c := range w.seen.Containers {
		if c.Current != nil && c.Current.State != pod.Exited {
			runs[name] = c.Current.Number
		}
	}
	return runs
}

// recoverFromStatus takes up a pod of which only the published status is left,
// mostly because the host was rebooted: what ran ended with it. If its state
// file was lost otherwise, what still runs can't be told from strangers and is
// ended.
func (w *worker) recoverFromStatus(ctx context.Context) {
	if w.status.StartTime == nil {
		return // it never ran
	}
	if err := w.agent.takeDown(context.WithoutCancel(ctx), w.pod, ""); err != nil {
		w.sandboxStays(err)
	}
	for _, list := range [][]v1.ContainerStatus{w.status.InitContainerStatuses, w.status.ContainerStatuses, w.status.EphemeralContainerStatuses} {
		for _, cs := range list {
			if a := attemptFromStatus(cs, w.agent.cfg.Now()); a != nil {
				if spec := w.spec(cs.Name); spec != nil {
					a.Resources = spec.Resources
				}
				w.seen.Containers[cs.Name] = pod.Container{Image: cs.ImageID, Current: a, Last: cs.LastTerminationState.Terminated}
			}
		}
	}
}

// exitedWithHost is the exit code and reason of a container that ended with its
// host: what containerd reports after a reboot.
const (
	exitedWithHost       = 255
	reasonExitedWithHost = "Unknown"
)

func attemptFromStatus(cs v1.ContainerStatus, now time.Time) *pod.Attempt {
	a := &pod.Attempt{
		Number: int(cs.RestartCount), State: pod.Exited, OldSandbox: true, Image: cs.Image, ImageID: cs.ImageID,
		ID: strings.TrimPrefix(cs.ContainerID, "shoal://"),
	}
	t := cs.State.Terminated
	if t == nil && cs.State.Waiting != nil {
		t = cs.LastTerminationState.Terminated
	}
	switch {
	case cs.State.Running != nil:
		a.Started, a.Finished = cs.State.Running.StartedAt.Time, now
		a.ExitCode, a.Reason = exitedWithHost, reasonExitedWithHost
	case t != nil:
		a.Started, a.Finished = t.StartedAt.Time, t.FinishedAt.Time
		a.ExitCode, a.Reason, a.Message = int(t.ExitCode), t.Reason, t.Message
	default:
		return nil
	}
	return a
}
