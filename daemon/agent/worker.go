package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/cpuset"
	"github.com/shoal-project/shoal/daemon/exclusive"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/prober"
	"github.com/shoal-project/shoal/daemon/scope"
	"github.com/shoal-project/shoal/daemon/stats"
	"github.com/shoal-project/shoal/storage/volume"
)

// worker runs one pod. Its fields belong to its goroutine, except those that
// never change and those of the inbox.
type worker struct {
	agent     *Agent
	uid       types.UID
	namespace string
	podName   string
	began     time.Time // when the agent was given the pod
	given     *v1.Pod   // as it was handed over last; of the agent, under its lock

	wanted   *v1.Pod // as it was handed over
	pod      *v1.Pod // the same, with the resources that it was given
	admitted bool    // it was given some

	status  v1.PodStatus
	decided bool // status is what was decided here, and not what was handed over with the pod
	seen    pod.Observed
	state   state
	volumes map[string]volume.Mounted
	sandbox container.Sandbox
	cancel  map[string]context.CancelFunc // operations under way, by container; "" is the sandbox
	hooks   map[hookKey]context.CancelFunc
	over    []chan struct{} // to be closed when nothing of the pod runs
	stopLog map[string]bool // what was said of a stop under way
	ahead   map[string]*run // prepared, for what is decided next, by container
	aheadOf *v1.Pod         // which they were prepared for

	exclusive bool                            // it has an identity to claim
	leave     exclusive.Leave                 // that it may begin by
	present   atomic.Pointer[exclusive.Leave] // by which what is there of it was begun; nil: nothing is

	deferred atomic.Bool // an edit of its resources waits for room

	commands map[prober.Key]*container.Repeated // of probes

	ringing chan struct{} // holds one: the inbox is not empty, or look again
	ended   chan struct{} // closed when the worker has ended

	mu       sync.Mutex
	inbox    []func()
	open     map[string]string          // log files of running containers
	running  map[string]stats.Container // to measure
	measured *stats.Pod                 // to measure; nil: no sandbox
	images   []string                   // IDs in the store, see imagesInUse
}

func newWorker(a *Agent, p *v1.Pod) *worker {
	w := &worker{
		agent: a, uid: p.UID, namespace: p.Namespace, podName: p.Name,
		wanted: p, pod: p, status: p.Status,
		seen:    pod.Observed{Containers: make(map[string]pod.Container), Conditions: pod.Foreign(p.Status.Conditions)},
		state:   state{Pod: p, Containers: make(map[string]*containerState)},
		cancel:  make(map[string]context.CancelFunc),
		hooks:   make(map[hookKey]context.CancelFunc),
		stopLog: make(map[string]bool),
		open:    make(map[string]string),
		running: make(map[string]stats.Container),
		ringing: make(chan struct{}, 1),
		ended:   make(chan struct{}),
	}
	if a.cfg.Claims != nil && a.cfg.Claims.Key(p) != "" {
		w.exclusive = true
		w.present.Store(unruled) // until it has looked
	}
	return w
}

// send has f run in the worker's goroutine.
func (w *worker) send(f func()) {
	w.mu.Lock()
	w.inbox = append(w.inbox, f)
	w.mu.Unlock()
	w.poke()
}

// poke makes the worker look again.
func (w *worker) poke() {
	select {
	case w.ringing <- struct{}{}:
	default:
	}
}

// update hands over the pod as it is wanted now.
func (w *worker) update(p *v1.Pod) {
	w.send(func() {
		old := w.pod
		w.wanted, w.pod = p, withResources(p, w.pod)
		if changesVolumes(old, p) {
			w.stale()
		}
		w.callOffOldImages(old)
	})
}

// callOffOldImages ends the making of containers, pulls above all, from images
// that an edit has replaced.
func (w *worker) callOffOldImages(old *v1.Pod) {
	for name, c := range w.seen.Containers {
		before, after := findContainer(old, name), w.spec(name)
		if c.Making && before != nil && after != nil && before.Image != after.Image {
			w.cancel[name]()
		}
	}
}

func (w *worker) receive() {
	w.mu.Lock()
	inbox := w.inbox
	w.inbox = nil
	w.mu.Unlock()
	for _, f := range inbox {
		f()
	}
}

// run is the worker's life: until nothing of the pod is left, or the daemon ends.
func (w *worker) run(ctx context.Context) {
	defer w.waitForOperations()
	defer w.agent.prober.Set(string(w.uid), nil)
	defer w.sayOver()
	if ctx.Err() != nil {
		return
	}
	w.began = w.agent.cfg.Now()
	w.recover(ctx)
	w.admit()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		w.receive()
		d := w.decide()
		if d.Gone {
			if w.finish() {
				return
			}
			continue // something has stayed: when to try again is to be decided
		}
		if w.act(ctx, d) {
			continue
		}
		if len(w.over) > 0 && !w.runsStill() {
			w.sayOver()
		}
		timer.Stop()
		if !d.Wake.IsZero() {
			timer.Reset(d.Wake.Sub(w.agent.cfg.Now()))
		}
		select {
		case <-w.ringing:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// decide observes, decides and publishes the pod's status.
func (w *worker) decide() pod.Decision {
	w.assign()
	w.observe()
	w.observeClaim()
	w.seen.HostIPs = w.agent.cfg.Node().IPs
	w.seen.Serves = w.pod.DeletionTimestamp != nil && w.agent.cfg.Serves != nil && w.agent.cfg.Serves(w.pod)
	w.seen.Disrupted = pod.Disruption(w.wanted.Status)
	p := w.pod.DeepCopy()
	p.Status = w.status
	d := pod.Decide(p, w.seen, w.agent.cfg.Now())
	d.Status.QOSClass = w.pod.Status.QOSClass
	if !d.Gone && !equality.Semantic.DeepEqual(d.Status, w.status) {
		w.reportBackOff(w.status, d.Status)
		w.sayRunning(w.status.Phase, d.Status.Phase)
		w.status = d.Status
		w.agent.cfg.Publish(w.agent.ctx, w.pod, d.Status, false)
	}
	w.decided = w.decided || !d.Gone
	if d.Ends {
		for _, cancel := range w.cancel {
			cancel()
		}
		w.callOffHooks("")
	}
	w.probe(d.Probe)
	return d
}

// observe reads what became of the running containers and of the pause process.
func (w *worker) observe() {
	if s := w.seen.Sandbox; s.Ready && !s.Busy && !w.sandbox.Alive() {
		w.agent.cfg.Events.Warning(reference(w.pod, ""), "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
		w.seen.Sandbox.Ready = false
		w.state.Ready = false
		w.save()
	}
	w.seen.Sandbox.Outgrown = w.seen.Sandbox.Ready && w.state.Limits != w.agent.podResources(w.pod, w.agent.cores.grant(string(w.uid))).String()
	for name, c := range w.seen.Containers {
		if a := c.Current; a != nil && a.State != pod.Exited && !c.Busy {
			w.observeContainer(name, c)
		}
	}
}

func (w *worker) observeContainer(name string, c pod.Container) {
	dir := w.bundle(name, c.Current.Number)
	s, err := w.agent.cfg.Containers.Read(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist): // it ended, or its directory was taken away: nobody knows how
		s = container.State{Phase: container.Exited, ExitCode: container.ExitUnknown, Reason: container.ContainerStatusUnknown}
	case err != nil:
		w.agent.log.Error("can't read a container's state", "pod", w.name(), "container", name, "err", err)
		return
	case s.Phase == container.Running && !s.Supervised:
		c.Unsupervised = true
		w.seen.Containers[name] = c
		return
	case s.Phase != container.Exited:
		return
	}
	a := *c.Current
	a.State = pod.Exited
	a.ExitCode, a.OOMKilled, a.Reason = s.ExitCode, s.OOMKilled, string(s.Reason)
	a.Finished = s.FinishedAt
	if a.Finished.IsZero() {
		a.Finished = w.agent.cfg.Now()
	}
	spec := w.spec(name)
	if spec != nil {
		a.Message = w.terminationMessage(spec, a)
		w.refused(spec, &a)
	}
	c.Current, c.Unsupervised = &a, false
	c.StopFailure, c.ResizeFailure = nil, nil
	w.put(name, c)
	delete(w.stopLog, name)
	w.callOffHooks(name)
	w.mu.Lock()
	delete(w.open, name)
	delete(w.running, name)
	w.mu.Unlock()
	w.forgetAttempt(name, a.Number)
}

// act carries out a decision and says whether it changed what is observed.
// What takes time is begun, and observed as busy.
func (w *worker) act(ctx context.Context, d pod.Decision) (changed bool) {
	for _, do := range d.Do {
		switch do.Verb {
		case pod.StartSandbox:
			w.agent.wait.Go(w.anticipate)
			w.beginExclusive()
			w.save() // from here on something may be left behind: the file says whose it is
			w.seen.Volumes.Stale = false
			j := w.job()
			j.first = w.first()
			w.begin(ctx, "", j.startSandbox)
		case pod.ResizeSandbox:
			w.resizeSandbox(ctx)
		case pod.Refresh:
			w.seen.Volumes.Stale = false // what changes from here on makes it stale again
			w.begin(ctx, volumesOperation, w.job().refreshVolumes)
		case pod.StopSandbox:
			w.begin(ctx, "", w.job().stopSandbox)
		case pod.Start:
			j, spec := w.job(), w.spec(do.Container)
			j.target, j.ahead = w.targetBundle(do.Container), w.takeAhead(do.Container, do.Number)
			w.begin(ctx, do.Container, func(ctx context.Context) func() { return j.start(ctx, spec, do.Number) })
			w.making(do.Container)
		case pod.Terminate:
			w.terminate(ctx, do)
		case pod.Kill:
			w.kill(ctx, do)
		case pod.Resize:
			w.resize(ctx, do.Container)
		case pod.PostStart, pod.PreStop:
			w.runHook(ctx, do)
		case pod.Reset:
			w.reset()
		}
		changed = true
	}
	w.dropAhead()
	return changed
}

// anticipate speeds up the scope that the sandbox will need in a moment.
func (w *worker) anticipate() {
	if err := scope.Anticipate(); err != nil {
		w.agent.log.Debug("can't anticipate a pod's scope", "pod", w.name(), "err", err)
	}
}

// job is what an operation may know of its pod: it runs beside the worker's
// goroutine and so must not look at the worker's own fields.
type job struct {
	w       *worker
	pod     *v1.Pod
	status  v1.PodStatus
	sandbox container.Sandbox
	volumes map[string]volume.Mounted
	grant   cpuset.Grant
	unit    string
	cgroup  string
	path    string // the cgroup's, from the root of the hierarchy
	ips     []string
	leave   *exclusive.Leave // of an exclusive pod; nil: it is none
	oci     string           // the OCI runtime of its RuntimeClass; "": the host's own
	target  string           // for an ephemeral container: the bundle of the one it looks at

	first []pod.Action // for a sandbox: what will be started in it first
	ahead *run         // for a container: what was prepared of it; nil: nothing
}

func (w *worker) job() job {
	return job{
		w: w, pod: w.pod, grant: w.agent.cores.grant(string(w.uid)), status: w.status, sandbox: w.sandbox, volumes: w.volumes,
		unit: w.state.Unit, cgroup: w.state.Cgroup, path: w.state.CgroupPath, ips: w.state.IPs, oci: w.state.OCI, leave: w.state.Leave,
	}
}

// begin runs an operation in its own goroutine; what it returns is applied in
// the worker's. An operation on a container, on the sandbox ("") or on the
// volumes excludes others on the same.
func (w *worker) begin(ctx context.Context, name string, op func(context.Context) func()) {
	ctx, cancel := context.WithCancel(ctx)
	w.cancel[name] = cancel
	w.busy(name, true)
	go func() {
		apply := op(ctx)
		w.send(func() {
			delete(w.cancel, name)
			w.busy(name, false)
			apply() // before cancel: it asks ctx whether the operation was called off
			cancel()
		})
	}()
}

func (w *worker) busy(name string, busy bool) {
	switch name {
	case "":
		w.seen.Sandbox.Busy = busy
		if busy {
			w.seen.Sandbox.Present = true
		}
		return
	case volumesOperation:
		w.seen.Volumes.Busy = busy
		return
	}
	c := w.seen.Containers[name]
	c.Busy, c.Making = busy, false
	w.seen.Containers[name] = c
}

// making notes that what keeps a container busy is its next attempt.
func (w *worker) making(name string) {
	c := w.seen.Containers[name]
	c.Making = true
	w.seen.Containers[name] = c
}

// waitForOperations returns when those under way have ended, so that a daemon
// that stops leaves nothing half done.
func (w *worker) waitForOperations() {
	for len(w.cancel)+len(w.hooks) > 0 {
		for _, cancel := range w.cancel {
			cancel()
		}
		for _, cancel := range w.hooks {
			cancel()
		}
		<-w.ringing
		w.receive()
	}
	w.dropAhead()
}

// finish removes what the pod leaves behind, and says that it is gone. If that
// fails the pod is not gone: it is tried again, after a while.
func (w *worker) finish() (gone bool) {
	if err := w.agent.remove(w.agent.ctx, w.pod); err != nil {
		w.sandboxStays(err)
		return false
	}
	w.agent.cores.release(string(w.uid))
	w.releaseClaim()
	w.agent.cfg.Publish(w.agent.ctx, w.pod, w.status, true)
	return true
}

// retryNow makes what failed be tried again at once.
func (w *worker) retryNow() {
	if f := w.seen.Sandbox.Failure; f != nil {
		f.At = time.Time{}
	}
	if f := w.seen.Volumes.Failure; f != nil {
		f.At = time.Time{}
	}
	for _, c := range w.seen.Containers {
		if c.Failure != nil {
			c.Failure.At = time.Time{}
		}
	}
}

// put sets what is observed of a container and saves it.
func (w *worker) put(name string, c pod.Container) {
	w.seen.Containers[name] = c
	w.save()
}

// save writes the state file. A failure is said and not fatal: it matters only
// if the daemon dies before the next one.
func (w *worker) save() {
	w.state.Pod = w.pod
	for name, c := range w.seen.Containers {
		s := w.state.Containers[name]
		if s == nil {
			s = &containerState{}
			w.state.Containers[name] = s
		}
		s.Current, s.Last, s.Backoff = c.Current, c.Last, c.Backoff
	}
	images, measured := w.imagesInUse(), w.toMeasure()
	w.mu.Lock()
	w.images, w.measured = images, measured
	w.mu.Unlock()
	if err := w.state.write(w.dir()); err != nil {
		w.agent.log.Error("can't save a pod's state", "pod", w.name(), "err", err)
	}
}

// imagesInUse are the images that the pod's containers run from or will run
// from again, also of those being made.
func (w *worker) imagesInUse() []string {
	var ids []string
	over := w.status.Phase == v1.PodSucceeded || w.status.Phase == v1.PodFailed
	for _, c := range w.state.Containers {
		if c.Starting != nil {
			ids = append(ids, c.Starting.StoreID)
		}
		if a := c.Current; a != nil && (a.State != pod.Exited || !over) {
			ids = append(ids, a.StoreID)
		}
	}
	return ids
}

func (w *worker) name() string { return w.namespace + "/" + w.podName }

// dir is the pod's directory below /run.
func (w *worker) dir() string { return filepath.Join(w.agent.cfg.Run, string(w.uid)) }

// lib is the pod's directory below /var/lib.
func (w *worker) lib() string { return filepath.Join(w.agent.cfg.Lib, string(w.uid)) }

// bundle is the directory of one run of a container.
func (w *worker) bundle(name string, number int) string {
	return filepath.Join(containersDir(w.dir()), name, strconv.Itoa(number))
}

// root is where the root of one run of a container is mounted.
func (w *worker) root(name string, number int) string {
	return filepath.Join(containersDir(w.lib()), name, strconv.Itoa(number))
}

// containersDir is where a pod's directory has its containers. They have it to
// themselves: beside them lies shm, in which containers make what they like.
func containersDir(pod string) string { return filepath.Join(pod, "containers") }

// logs is where the pod's containers log to.
func (w *worker) logs() string { return logDir(w.agent.cfg.Log, w.namespace, w.podName, w.uid) }

func (w *worker) logFile(name string, number int) string {
	return filepath.Join(w.logs(), name, strconv.Itoa(number)+".log")
}

// id names one run of a container to the runtime.
func (w *worker) id(name string, number int) string {
	return fmt.Sprintf("%s-%d-%s", name, number, w.uid)
}

// spec is a container as it is wanted, nil when the pod has none of that name.
func (w *worker) spec(name string) *v1.Container {
	return findContainer(w.pod, name)
}

func findContainer(p *v1.Pod, name string) *v1.Container {
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	for i := range p.Spec.EphemeralContainers {
		if c := &p.Spec.EphemeralContainers[i]; c.Name == name {
			return pod.Ephemeral(c)
		}
	}
	return nil
}

// terminationFile is the file behind a run's terminationMessagePath. The
// container may write as much as it likes to it: so it is not in memory (/run).
func (w *worker) terminationFile(name string, number int) string {
	return filepath.Join(w.lib(), "termination", name, strconv.Itoa(number))
}

// terminationMessage is what a container left in its terminationMessagePath,
// at most 4096 bytes (the kubelet's MaxContainerTerminationMessageLength).
func (w *worker) terminationMessage(c *v1.Container, a pod.Attempt) string {
	f, err := os.Open(w.terminationFile(c.Name, a.Number))
	if err != nil {
		return ""
	}
	defer f.Close()
	buf := make([]byte, 4096)
	n, _ := f.Read(buf)
	if n == 0 && c.TerminationMessagePolicy == v1.TerminationMessageFallbackToLogsOnError && a.ExitCode != 0 {
		return tailOfLog(w.logFile(c.Name, a.Number))
	}
	return string(buf[:n])
}
