package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/scope"
)

// terminate sends a container its stop signal; the deciders count the grace.
// It is written down afterwards: a daemon that dies in between sends it again,
// which is better than never.
func (w *worker) terminate(ctx context.Context, do pod.Action) {
	c := w.seen.Containers[do.Container]
	a := *c.Current
	a.Signalled, a.Grace = w.agent.cfg.Now(), do.Grace
	w.saySo(do)
	signal := syscall.SIGTERM
	if spec := w.spec(do.Container); spec != nil {
		if img, err := w.agent.cfg.Images.Get(a.Image); err == nil {
			if s, err := container.StopSignal(spec, img.Config); err == nil {
				signal = s
			}
		}
	}
	w.signal(ctx, do.Container, a.Number, signal)
	c.Current = &a
	w.put(do.Container, c)
}

// kill ends a container that did not end by itself.
func (w *worker) kill(ctx context.Context, do pod.Action) {
	c := w.seen.Containers[do.Container]
	a := *c.Current
	a.Killed = true
	if a.Signalled.IsZero() {
		a.Signalled = w.agent.cfg.Now()
	}
	w.saySo(do)
	w.signal(ctx, do.Container, a.Number, syscall.SIGKILL)
	c.Current = &a
	w.put(do.Container, c)
}

func (w *worker) signal(ctx context.Context, name string, number int, s syscall.Signal) {
	err := w.agent.cfg.Containers.Signal(ctx, w.bundle(name, number), s)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		w.agent.log.Error("can't signal a container", "pod", w.name(), "container", name, "signal", s.String(), "err", err)
	}
}

// saySo records a stop once.
func (w *worker) saySo(do pod.Action) {
	if w.stopLog[do.Container] {
		return
	}
	w.stopLog[do.Container] = true
	message := "Stopping container " + do.Container
	if do.Reason != "" {
		message += ": " + do.Reason
	}
	w.agent.cfg.Events.Normal(reference(w.pod, do.Container), "Killing", "%s", message)
}

// resize puts a container's edited resources in force, and the pod's with them.
func (w *worker) resize(ctx context.Context, name string) {
	spec := w.spec(name)
	c := w.seen.Containers[name]
	a := *c.Current
	a.Resources = *spec.Resources.DeepCopy()
	c.Current = &a
	w.put(name, c)
	limits := w.agent.cfg.Limits
	err := errors.Join(
		w.agent.cfg.Scopes.Update(ctx, w.state.Unit, scope.PodResources(w.pod, limits)),
		w.agent.cfg.Containers.Update(ctx, w.bundle(name, a.Number), scope.ContainerResources(w.pod, spec, limits)),
	)
	ref := reference(w.pod, name)
	if err != nil {
		w.agent.cfg.Events.Warning(ref, "ResizeError", "Error putting new resources in force: %v", err)
		return
	}
	w.agent.cfg.Events.Normal(ref, "ResizeCompleted", "Pod resize completed: container %s", name)
}

// forgetAttempt frees what a run that ended holds: its bundle and its root.
// What is known of it is in the state by now.
func (w *worker) forgetAttempt(name string, number int) {
	w.begin(w.agent.ctx, name, func(ctx context.Context) func() {
		ctx = context.WithoutCancel(ctx) // what is begun here must end
		err := w.agent.removeAttempt(ctx, w.uid, name, number)
		return func() {
			if err != nil {
				w.agent.log.Error("can't clean up after a container", "pod", w.name(), "container", name, "err", err)
			}
		}
	})
}

// dropOldLogs keeps the logs of the running and the previous run (what `shoal
// logs -p` shows), as the kubelet keeps one dead container.
func (w *worker) dropOldLogs(name string, number int) {
	dir := filepath.Join(w.logs(), name)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		n, err := strconv.Atoi(strings.SplitN(e.Name(), ".", 2)[0])
		if err == nil && n < number-1 {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	for n := range max(number-1, 0) {
		os.Remove(w.bundle(name, n) + ".termination")
	}
}

// rotateLogs renames a log that has grown too large; conmon goes on in a new
// one. Old ones beyond the limit go.
func (a *Agent) rotateLogs(now time.Time) {
	a.mu.Lock()
	workers := make([]*worker, 0, len(a.workers))
	for _, w := range a.workers {
		workers = append(workers, w)
	}
	a.mu.Unlock()
	for _, w := range workers {
		w.send(func() { w.rotateLogs(now) })
	}
}

func (w *worker) rotateLogs(now time.Time) {
	for name, c := range w.seen.Containers {
		if c.Busy || c.Current == nil || c.Current.State != pod.Running {
			continue
		}
		file := w.logFile(name, c.Current.Number)
		info, err := os.Stat(file)
		if err == nil && info.Size() < w.agent.cfg.LogMaxSize {
			continue
		}
		// The name sorts by time, and is the kubelet's. A daemon may have died
		// between this and what follows: then there is no file, and conmon still
		// writes to the renamed one.
		if err := os.Rename(file, file+"."+now.UTC().Format("20060102-150405")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.agent.log.Error("can't rotate a log", "file", file, "err", err)
			continue
		}
		if err := w.agent.cfg.Containers.ReopenLog(w.agent.ctx, w.bundle(name, c.Current.Number)); err != nil {
			w.agent.log.Error("can't rotate a log", "file", file, "err", err)
		}
		w.dropRotated(file)
	}
}

func (w *worker) dropRotated(file string) {
	old, _ := filepath.Glob(file + ".*") // sorted, oldest first
	for len(old) > w.agent.cfg.LogMaxFiles-1 {
		os.Remove(old[0])
		old = old[1:]
	}
}

// tailOfLog is the end of a container's log, at most 80 lines or 2048 bytes
// (the kubelet's MaxContainerTerminationMessageLogLines and -LogLength).
func tailOfLog(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	var text string
	for _, l := range lines[max(len(lines)-80, 0):] {
		// 2026-11-21T07:44:00.000000000+00:00 stdout F message
		if f := strings.SplitN(l, " ", 4); len(f) == 4 {
			text += f[3]
			if f[2] == "F" {
				text += "\n"
			}
		}
	}
	return text[max(len(text)-2048, 0):]
}
