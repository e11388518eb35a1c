package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/cure"
	"github.com/shoal-project/shoal/daemon/image"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/scope"
	"github.com/shoal-project/shoal/storage/volume"
)

// failure is why a container could not be started, with the kubelet's reason.
type failure struct {
	reason string
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// start pulls, creates and starts one run of a container.
func (j job) start(ctx context.Context, c *v1.Container, number int) func() {
	w := j.w
	started := w.agent.cfg.Now()
	attempt, err := j.makeContainer(ctx, c, number)
	return func() {
		seen := w.seen.Containers[c.Name]
		cs := w.containerState(c.Name)
		if err != nil {
			w.startFailed(ctx, j.pod, c, err)
			cs.Starting = nil
			w.save()
			return
		}
		if old := seen.Current; old != nil {
			seen.Last = pod.Terminated(old)
			if old.Finished.After(time.Time{}) {
				seen.Backoff = seen.Backoff.Restarted(old.Finished, started)
			}
		}
		seen.Current, seen.Failure, seen.Image = attempt, nil, attempt.ImageID
		cs.Starting = nil
		w.put(c.Name, seen)
		w.watchContainer(c.Name, number)
		w.dropOldLogs(c.Name, number)
	}
}

// watchContainer has the worker look again when the container's first process or
// its supervisor ends, and its log rotated.
func (w *worker) watchContainer(name string, number int) {
	s, err := w.agent.cfg.Containers.Read(w.bundle(name, number))
	if err == nil && s.PID != 0 {
		w.agent.ends.add(s.PID, w.uid)
	}
	if err != nil || s.PID == 0 || !s.Supervised {
		w.poke() // it has ended already, or has to be ended
		return
	}
	w.agent.ends.add(s.Supervisor, w.uid) // without conmon there is no exit code
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[name] = w.logFile(name, number)
	w.ran(name, number, s)
}

func (w *worker) startFailed(ctx context.Context, about *v1.Pod, c *v1.Container, err error) {
	if ctx.Err() != nil {
		return // it was called off
	}
	seen := w.seen.Containers[c.Name]
	err = cure.Wrap(about, c.Name, err)
	f := w.failure(about, string(container.RunContainerError), err, seen.Failure)
	var ours *failure
	var theirs *container.Error
	switch {
	case errors.As(err, &ours):
		f.Reason = ours.reason
	case errors.As(err, &theirs):
		f.Reason = string(theirs.Reason)
	}
	seen.Failure = f
	w.seen.Containers[c.Name] = seen
	ref := reference(w.pod, c.Name)
	if pod.IsImageReason(f.Reason) {
		w.agent.cfg.Events.Warning(ref, "Failed", "Error: %s", f.Reason)
		return
	}
	w.agent.cfg.Events.Warning(ref, "Failed", "Error: %v", err)
}

// run is one run of a container that is being made.
type run struct {
	container *v1.Container
	attempt   *pod.Attempt
	image     image.Image
	root      string            // where its root is mounted; "": nowhere yet
	cfg       container.Config  // all that the specification needs; zero: not known yet
	conmon    *container.Parked // nil: none waits
}

// makeContainer is start's work; all of it may be called off.
func (j job) makeContainer(ctx context.Context, c *v1.Container, number int) (*pod.Attempt, error) {
	r, img := j.ahead, image.Image{}
	if r == nil {
		var err error
		if img, err = j.image(ctx, c); err != nil {
			return nil, err
		}
	}
	select {
	case j.w.agent.starts <- struct{}{}:
		defer func() { <-j.w.agent.starts }()
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), j.drop(ctx, r))
	}
	if err := j.may(ctx); err != nil {
		return nil, errors.Join(err, j.drop(ctx, r))
	}
	if r == nil {
		var err error
		if r, err = j.beginRun(ctx, c, number, img); err != nil {
			return nil, err
		}
	}
	attempt := r.attempt
	if err := j.createAndStart(ctx, r); err != nil {
		left := j.drop(ctx, r)
		if left == nil && ctx.Err() == nil && isStartError(err) {
			err = cure.Wrap(j.pod, c.Name, err)
			j.w.agent.cfg.Events.Warning(reference(j.pod, c.Name), "Failed", "Error: %v", err)
			attempt.State, attempt.Finished = pod.Exited, j.w.agent.cfg.Now()
			attempt.ExitCode, attempt.Reason, attempt.Message = pod.StartErrorExitCode, pod.StartError, err.Error()
			return attempt, nil
		}
		return nil, errors.Join(err, left)
	}
	attempt.Started = j.w.agent.cfg.Now()
	return attempt, nil
}

// beginRun says in the state that the run is being made.
func (j job) beginRun(ctx context.Context, c *v1.Container, number int, img image.Image) (*run, error) {
	attempt := &pod.Attempt{
		Number: number, ID: j.w.id(c.Name, number), State: pod.Running,
		Image: c.Image, ImageID: imageID(img), StoreID: img.ID, Resources: *c.Resources.DeepCopy(), CPUs: cpus(j.grant, c.Name),
	}
	if c.Lifecycle != nil && c.Lifecycle.PostStart != nil {
		attempt.PostStart = pod.HookPending
	}
	if err := j.w.announce(c.Name, attempt); err != nil {
		return nil, err
	}
	// What an earlier daemon left half made under this number goes first.
	if err := j.w.agent.removeAttempt(ctx, j.w.uid, c.Name, number); err != nil {
		return nil, &failure{string(container.CreateContainerError), err}
	}
	if err := os.MkdirAll(filepath.Dir(j.w.logFile(c.Name, number)), 0o755); err != nil {
		return nil, &failure{string(container.CreateContainerError), err}
	}
	return &run{container: c, attempt: attempt, image: img}, nil
}

// drop takes away what was made of a run, nil for none.
func (j job) drop(ctx context.Context, r *run) error {
	if r == nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	var err error
	if r.conmon != nil {
		err = r.conmon.CallOff(ctx)
	}
	return errors.Join(err, j.w.agent.removeAttempt(ctx, j.w.uid, r.container.Name, r.attempt.Number))
}

// notExecutable is what OCI runtimes say when they create a container whose
// command can't be executed: crun's find_executable, runc's exec.LookPath.
var notExecutable = regexp.MustCompile("executable file .+ not found|open executable|exec(utable)? path not specified|exec: \"")

// isStartError says whether a container failed as a run of its command, and not
// because it could not be set up. With containerd that is found out when the
// container is started; crun tells when it is created.
func isStartError(err error) bool {
	var e *container.Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Reason == container.RunContainerError ||
		e.Reason == container.CreateContainerError && notExecutable.MatchString(e.Error())
}

// announce saves that a run of a container is being made, before it is. It runs
// beside the worker, which alone writes the state: hence the detour, and the
// copy, for a goes on being filled in.
func (w *worker) announce(name string, a *pod.Attempt) error {
	done := make(chan struct{})
	starting := *a
	w.send(func() {
		w.containerState(name).Starting = &starting
		w.save()
		close(done)
	})
	select {
	case <-done:
		return nil
	case <-w.agent.ctx.Done():
		return w.agent.ctx.Err()
	}
}

func (w *worker) containerState(name string) *containerState {
	cs := w.state.Containers[name]
	if cs == nil {
		cs = &containerState{}
		w.state.Containers[name] = cs
	}
	return cs
}

func (j job) createAndStart(ctx context.Context, r *run) error {
	defer j.w.agent.timed(tookContainer)()
	if err := j.furnish(r); err != nil {
		return err
	}
	cfg := r.cfg
	cfg.CgroupParent = j.path
	ns, err := j.targetNamespace(cfg.Container.Name)
	if err != nil {
		return err
	}
	if ns != nil {
		defer ns.Close()
		cfg.PIDNS = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
	}
	spec, err := container.Spec(cfg)
	if err != nil {
		return err
	}
	r.attempt.User = identity(spec)
	var cgroup *os.File
	if j.cgroup != "" {
		if cgroup, err = os.Open(filepath.Join(j.cgroup, "init")); err != nil {
			return &failure{string(container.CreateContainerError), err}
		}
		defer cgroup.Close()
	}
	ref := reference(j.pod, cfg.Container.Name)
	rt := j.w.agent.cfg.Containers
	if r.conmon != nil {
		_, err = r.conmon.Create(ctx, spec, cgroup)
	} else {
		_, err = rt.Create(ctx, cfg, spec, cgroup)
	}
	if err != nil {
		return err
	}
	if err := j.may(ctx); err != nil {
		j.w.agent.cfg.Events.Normal(ref, "Created", "Container created")
		return err
	}
	// Not called off with the rest: it takes no time, and when it is cut short
	// nobody knows whether the container has begun to work.
	err = rt.Start(context.WithoutCancel(ctx), cfg.Dir)
	j.w.agent.cfg.Events.Normal(ref, "Created", "Container created")
	if err != nil {
		return err
	}
	j.w.agent.cfg.Events.Normal(ref, "Started", "Container started")
	return nil
}

// furnish resolves everything that the run needs, unless that was done.
func (j job) furnish(r *run) error {
	if r.cfg.Container != nil {
		return nil
	}
	cfg, err := j.containerConfig(r.container, r.attempt.Number, r.image)
	if err != nil {
		return err
	}
	if err := j.mountRoot(r); err != nil {
		return &failure{string(container.CreateContainerError), err}
	}
	cfg.Rootfs = r.root
	if cfg, err = cfg.Load(); err != nil {
		return err
	}
	r.cfg = cfg
	return nil
}

// mountRoot mounts the run's root, unless it is. It is writable also for
// readOnlyRootFilesystem: the runtime makes mount points in it before it makes it
// read-only.
func (j job) mountRoot(r *run) error {
	if r.root != "" {
		return nil
	}
	users, err := j.userNS()
	if err != nil {
		return err
	}
	if users != nil {
		defer users.NS.Close()
	}
	dir := j.w.root(r.container.Name, r.attempt.Number)
	root, err := image.MountRoot(r.image, dir, false, users)
	if err != nil {
		return err
	}
	if err := j.letIn(r.container.Name, dir); err != nil {
		return err
	}
	r.root = root
	return nil
}

// containerConfig resolves everything that the specification needs.
func (j job) containerConfig(c *v1.Container, number int, img image.Image) (container.Config, error) {
	var cfg container.Config
	env, mounts, err := j.environment(c)
	if err != nil {
		return cfg, &failure{string(container.CreateContainerConfigError), err}
	}
	expanded := *c
	expanded.Command, expanded.Args = pod.ExpandArgs(c.Command, env), pod.ExpandArgs(c.Args, env)
	if mounts, err = volume.BindSubPaths(filepath.Join(j.w.lib(), "subpaths"), c.Name, mounts); err != nil {
		return cfg, &failure{string(container.CreateContainerConfigError), err}
	}
	node := j.w.agent.cfg.Node()
	cfg = container.Config{
		ID: j.w.id(c.Name, number), Pod: j.pod, Container: &expanded, Attempt: number,
		Image: img.Config, Env: env, Sandbox: j.sandbox,
		CgroupParent: j.path, Resources: j.w.agent.containerResources(j.pod, c, cpus(j.grant, c.Name)),
		OOMScoreAdj: max(j.w.agent.cfg.MinOOMScoreAdj, scope.OOMScoreAdj(j.pod, c, node.Allocatable.Memory().Value())),
		AppArmor:    pod.AppArmorProfile(j.pod, c),
		OCI:         j.oci, Dir: j.w.bundle(c.Name, number), LogPath: j.w.logFile(c.Name, number), SeccompDefault: j.w.agent.cfg.SeccompDefault,
	}
	for _, m := range mounts {
		cfg.Mounts = append(cfg.Mounts, container.Mount{
			Source: m.Source, Destination: m.Destination, ReadOnly: m.ReadOnly,
			RecursiveReadOnly: m.RecursiveReadOnly, Propagation: m.Propagation, IDMap: m.HostIDs,
		})
	}
	etc, err := j.etcMounts(c, number)
	cfg.Mounts = append(cfg.Mounts, etc...)
	return cfg, err
}

// environment is a container's variables and, because subPathExpr may use
// them, its mounts.
func (j job) environment(c *v1.Container) ([]string, []volume.Mount, error) {
	p := j.pod.DeepCopy()
	p.Status.PodIPs = nil
	for _, ip := range j.ips {
		p.Status.PodIPs = append(p.Status.PodIPs, v1.PodIP{IP: ip})
		p.Status.PodIP = j.ips[0]
	}
	env, err := pod.Env(p, c, j.token(), j.w.agent.cfg.Node(), j.w.agent.cfg.Objects, j.envFile)
	if err != nil {
		return nil, nil, err
	}
	values := make(map[string]string, len(env))
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		values[name] = value
	}
	mounts, err := volume.Mounts(c, j.volumes, values, j.volumeNode())
	return env, mounts, err
}

// envFile is a pod.EnvFile: it looks into the pod's volumes.
func (j job) envFile(name, path, key string) (string, error) {
	vol, ok := j.volumes[name]
	if !ok {
		return "", fmt.Errorf("cannot find the volume %q referenced by FileKeyRef", name)
	}
	return volume.EnvFile(vol, path, key)
}

// etcMounts are the mounts that every container gets, unless the pod mounts
// something there itself.
func (j job) etcMounts(c *v1.Container, number int) ([]container.Mount, error) {
	taken := make(map[string]bool)
	for _, m := range c.VolumeMounts {
		taken[filepath.Clean(m.MountPath)] = true
	}
	var mounts []container.Mount
	add := func(source, destination string) {
		if !taken[destination] {
			mounts = append(mounts, container.Mount{Source: source, Destination: destination, Propagation: v1.MountPropagationNone})
		}
	}
	add(filepath.Join(j.w.dir(), "etc-hosts"), "/etc/hosts")
	add(filepath.Join(j.w.dir(), "etc-resolv.conf"), "/etc/resolv.conf")
	if !j.pod.Spec.HostNetwork {
		add(filepath.Join(j.w.dir(), "etc-hostname"), "/etc/hostname")
	}
	if c.TerminationMessagePath != "" {
		file := j.w.terminationFile(c.Name, number)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, &failure{string(container.CreateContainerError), err}
		}
		// The container may run as any user, and only it sees the file.
		if err := os.WriteFile(file, nil, 0o666); err != nil {
			return nil, &failure{string(container.CreateContainerError), err}
		}
		if err := errors.Join(os.Chmod(file, 0o666), j.give(j.sandbox.Users, file)); err != nil {
			return nil, &failure{string(container.CreateContainerError), err}
		}
		add(file, c.TerminationMessagePath)
	}
	return mounts, nil
}

// imageID is what status.containerStatuses[].imageID says: the digest under
// which the image can be pulled again, else its own.
func imageID(img image.Image) string {
	if len(img.Digests) > 0 {
		return img.Digests[0]
	}
	return img.ID
}

// removeAttempt ends one run of a container by force and frees its bundle and
// its root. The log stays.
func (a *Agent) removeAttempt(ctx context.Context, uid types.UID, name string, number int) error {
	run := filepath.Join(name, strconv.Itoa(number))
	if err := a.cfg.Containers.Delete(ctx, filepath.Join(containersDir(filepath.Join(a.cfg.Run, string(uid))), run)); err != nil {
		return err
	}
	return volume.Teardown(ctx, filepath.Join(containersDir(filepath.Join(a.cfg.Lib, string(uid))), run))
}

// removeAttempts is removeAttempt for all runs of a pod's containers of which
// something is left, bundle or root, but those to keep.
func (a *Agent) removeAttempts(ctx context.Context, uid types.UID, keep map[string]int) error {
	var errs []error
	for _, pods := range []string{a.cfg.Run, a.cfg.Lib} {
		dir := containersDir(filepath.Join(pods, string(uid)))
		for _, name := range subdirectories(dir) {
			numbers, err := attemptDirs(filepath.Join(dir, name))
			errs = append(errs, err)
			for _, n := range numbers {
				if kept, ok := keep[name]; !ok || kept != n {
					errs = append(errs, a.removeAttempt(ctx, uid, name, n))
				}
			}
		}
	}
	return errors.Join(errs...)
}
