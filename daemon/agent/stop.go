package agent

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/scope"
)

// terminate sends a container its stop signal; the deciders count the grace.
func (w *worker) terminate(ctx context.Context, do pod.Action) {
	signal := syscall.SIGTERM
	if spec := w.spec(do.Container); spec != nil {
		if img, err := w.agent.cfg.Images.Get(w.seen.Containers[do.Container].Current.Image); err == nil {
			if s, err := container.StopSignal(spec, img.Config); err == nil {
				signal = s
			}
		}
	}
	w.signal(ctx, do, signal, func(a *pod.Attempt) { a.Signalled, a.Grace = w.agent.cfg.Now(), do.Grace })
}

// kill ends a container that did not end by itself.
func (w *worker) kill(ctx context.Context, do pod.Action) {
	w.signal(ctx, do, syscall.SIGKILL, func(a *pod.Attempt) {
		a.Killed = true
		if a.Signalled.IsZero() {
			a.Signalled = w.agent.cfg.Now()
		}
	})
}

// signal sends a signal and then writes down that it was sent: a daemon that
// dies in between sends it again, which is better than never. What could not be
// sent is tried again. A process that is gone needs none.
func (w *worker) signal(ctx context.Context, do pod.Action, s syscall.Signal, sent func(*pod.Attempt)) {
	w.saySo(do)
	c := w.seen.Containers[do.Container]
	a := *c.Current
	err := w.agent.cfg.Containers.Signal(ctx, w.bundle(do.Container, a.Number), s)
	if s == syscall.SIGKILL && errors.Is(err, fs.ErrPermission) {
		err = w.killCgroup(do.Container, err)
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		w.agent.log.Error("can't signal a container", "pod", w.name(), "container", do.Container, "signal", s.String(), "err", err)
		c.StopFailure = w.failure(w.pod, reasonFailedKill, err, c.StopFailure)
		w.seen.Containers[do.Container] = c
		return
	}
	sent(&a)
	c.Current, c.StopFailure = &a, nil
	w.put(do.Container, c)
}

// killCgroup ends a container whose AppArmor profile lets no signals in
// (apparmor.d(5), "signal"): the kernel asks no profile when a cgroup is killed.
func (w *worker) killCgroup(name string, denied error) error {
	dir := w.containerCgroup(w.state.Cgroup, name)
	if dir == "" {
		return denied
	}
	if err := scope.Kill(dir); err != nil {
		return errors.Join(denied, err)
	}
	return nil
}

// saySo records a stop once.
func (w *worker) saySo(do pod.Action) {
	if w.stopLog[do.Container] {
		return
	}
	w.stopLog[do.Container] = true
	w.agent.cfg.Events.Normal(reference(w.pod, do.Container), "Killing", "%s", cmp.Or(do.Reason, "Stopping container "+do.Container))
}

// reset notes that what the containers did does not count any more.
func (w *worker) reset() {
	for name, c := range w.seen.Containers {
		if c.Current == nil {
			continue
		}
		a := *c.Current
		a.Reset = true
		c.Current = &a
		w.seen.Containers[name] = c
	}
	w.save()
}

// resize puts a container's edited resources in force, and has it run where it
// is to. It is written down afterwards: doing it once more changes nothing.
func (w *worker) resize(ctx context.Context, name string) {
	spec, ref := w.spec(name), reference(w.pod, name)
	c := w.seen.Containers[name]
	a := *c.Current
	edited := !equality.Semantic.DeepEqual(a.Resources, spec.Resources)
	from := a.CPUs
	var err error
	if edited {
		err = w.agent.cfg.Containers.Update(ctx, w.bundle(name, a.Number), w.agent.containerResources(w.pod, spec, c.CPUs))
		from = pod.CPUs{Own: c.CPUs.Own}
	}
	if err == nil && (edited || a.CPUs != c.CPUs) {
		err = w.moveContainer(ctx, name, a.Number, from, c.CPUs)
	}
	if err != nil {
		w.agent.cfg.Events.Warning(ref, reasonResizeError, "Error putting new resources in force: %v", err)
		c.ResizeFailure = w.failure(w.pod, reasonResizeError, err, c.ResizeFailure)
		a.CPUs.Unsure = true
		c.Current = &a
		w.put(name, c)
		return
	}
	a.Resources, a.CPUs = *spec.Resources.DeepCopy(), c.CPUs
	c.Current, c.ResizeFailure = &a, nil
	w.put(name, c)
	if edited {
		w.agent.cfg.Events.Normal(ref, "ResizeCompleted", "Pod resize completed: container %s", name)
	}
}

// resizeSandbox gives the scope the limits that the pod asks for.
func (w *worker) resizeSandbox(ctx context.Context) {
	g := w.agent.cores.grant(string(w.uid))
	if w.hasCpuset() {
		g = w.agent.cores.begin(string(w.uid))
	}
	want := w.agent.podResources(w.pod, g)
	err := w.agent.cfg.Scopes.Update(ctx, w.state.Unit, want)
	if err == nil {
		err = w.agent.moveHelpers(w.state.Cgroup, g)
	}
	if err != nil {
		w.agent.cfg.Events.Warning(reference(w.pod, ""), reasonResizeError, "Error putting the pod's new resources in force: %v", err)
		w.seen.Sandbox.ResizeFailure = w.failure(w.pod, reasonResizeError, err, w.seen.Sandbox.ResizeFailure)
		return
	}
	w.seen.Sandbox.ResizeFailure = nil
	w.state.Limits = want.String()
	w.save()
	if w.hasCpuset() {
		w.agent.cores.end(string(w.uid), want.AllowedCPUs)
	}
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
		os.Remove(w.terminationFile(name, n))
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
		if w.logsGrown() {
			w.send(func() { w.rotateLogs(now) })
		}
	}
}

// logsGrown says whether one of the pod's logs is to be rotated. It does not
// wake the worker: with many pods that would be most of what an idle daemon does.
func (w *worker) logsGrown() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, file := range w.open {
		if info, err := os.Stat(file); err != nil || info.Size() >= w.agent.cfg.LogMaxSize {
			return true
		}
	}
	return false
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
	lines := strings.Split(strings.TrimSuffix(endOfFile(file), "\n"), "\n")
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

// endOfFile is the whole lines among the last 64 kB of a file; "" of one that
// can't be read.
func endOfFile(name string) string {
	const most = 64 << 10
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	from := max(info.Size()-most, 0)
	data, err := io.ReadAll(io.NewSectionReader(f, from, most))
	if err != nil {
		return ""
	}
	if from > 0 {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	return string(data)
}
