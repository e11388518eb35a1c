package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/cpuset"
	"github.com/shoal-project/shoal/daemon/cure"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/scope"
	"github.com/shoal-project/shoal/proxy/podnet"
	"github.com/shoal-project/shoal/storage/volume"
)

// Reasons of events about sandboxes and volumes; the kubelet's.
const (
	reasonFailedSandbox = "FailedCreatePodSandBox"
	reasonFailedMount   = "FailedMount"
	reasonFailedKill    = "FailedKillPod"
	reasonResizeError   = "ResizeError"
)

// startSandbox makes all that a pod's containers share: volumes, namespaces,
// scope, addresses and the files of /etc. Each step finds what an earlier try
// made.
func (j job) startSandbox(ctx context.Context) func() {
	done := j.w.agent.timed(tookSandbox)
	made, err := j.makeSandbox(ctx)
	done()
	w := j.w
	return func() {
		for _, do := range j.first {
			if made.ahead[do.Container] == nil {
				w.containerState(do.Container).Starting = nil
			}
		}
		if err != nil {
			if ctx.Err() == nil {
				w.sandboxFailed(j.pod, err)
			}
			return
		}
		w.ahead, w.aheadOf = made.ahead, j.pod
		if w.hasCpuset() {
			w.agent.cores.end(string(w.uid), made.grant.Scope())
		}
		w.sandbox, w.volumes = made.sandbox, made.volumes
		w.seen.Volumes.Missing = false
		w.refreshed(ctx, j.pod, made.outdated)
		w.state.Limits = made.limits
		w.state.Unit, w.state.Cgroup, w.state.CgroupPath = made.unit.Name, made.unit.Cgroup, made.unit.Path
		w.state.IPs, w.state.OCI, w.state.Ready = made.ips, made.oci, true
		w.seen.Sandbox = pod.Sandbox{Ready: true, Present: true, IPs: made.ips}
		for name, c := range w.seen.Containers {
			if c.Current != nil {
				a := *c.Current
				a.OldSandbox = true
				c.Current = &a
				w.seen.Containers[name] = c
			}
		}
		w.save()
		w.agent.ends.add(w.sandbox.PID, w.uid)
	}
}

// sandboxFailed notes why, for the next try and for people.
func (w *worker) sandboxFailed(about *v1.Pod, err error) {
	err = cure.Wrap(about, "", err)
	w.seen.Sandbox.Failure = w.failure(about, reasonFailedSandbox, err, w.seen.Sandbox.Failure)
	if volumes := volume.Errors(nil); errors.As(err, &volumes) {
		w.volumesFailed(volumes)
		return
	}
	w.agent.cfg.Events.Warning(reference(w.pod, ""), reasonFailedSandbox, "Failed to create pod sandbox: %v", err)
}

// failure is err as the deciders see it, one more after before. It is about the
// pod as it was when what failed was begun.
func (w *worker) failure(about *v1.Pod, reason string, err error, before *pod.Failure) *pod.Failure {
	f := &pod.Failure{Reason: reason, Message: err.Error(), At: w.agent.cfg.Now(), Tries: 1, Generation: about.Generation}
	if before != nil && before.Generation == about.Generation {
		f.Tries += before.Tries
	}
	return f
}

// made is what startSandbox made.
type made struct {
	sandbox container.Sandbox
	unit    scope.Unit
	limits  string // the scope's, as state.Limits
	ips     []string
	oci     string // the OCI runtime of the pod's RuntimeClass
	volumes map[string]volume.Mounted

	ahead map[string]*run // of containers, see prepare

	grant    cpuset.Grant
	outdated error // why some volumes hold what they held before
}

func (j job) makeSandbox(ctx context.Context) (m made, err error) {
	if m.oci, err = j.w.agent.ociRuntime(j.pod); err != nil {
		return m, err
	}
	users, err := j.takeUsers(ctx, m.oci)
	if err != nil {
		return m, err
	}
	// A volume that is there but can't be brought up to date does not hold the pod up.
	if m.volumes, m.outdated = j.setUpVolumes(ctx); m.outdated != nil && missing(j.pod, m.volumes) {
		return m, m.outdated
	}
	if err := j.letInVolumes(users); err != nil {
		return m, err
	}
	select {
	case j.w.agent.starts <- struct{}{}:
		defer func() { <-j.w.agent.starts }()
	case <-ctx.Done():
		return m, ctx.Err()
	}
	if err := j.may(ctx); err != nil {
		return m, err
	}
	spec := &j.pod.Spec
	nodename, err := j.nodename()
	if err != nil {
		return m, err
	}
	sandbox := container.SandboxConfig{
		Hostname: nodename, Dir: j.w.dir(),
		HostNetwork: spec.HostNetwork, HostIPC: spec.HostIPC, HostPID: spec.HostPID,
		ShareProcessNamespace: spec.ShareProcessNamespace != nil && *spec.ShareProcessNamespace,
		Sysctls:               sysctls(spec),
		Users:                 users,
	}
	j.oci = m.oci
	ahead := j.goAhead(ctx)
	if err = j.share(ctx, sandbox, &m, ahead); err != nil {
		for _, r := range ahead.end() {
			j.dropRun(ctx, r)
		}
		m.ahead = nil
	}
	return m, err
}

// share makes the namespaces, the scope and the addresses. The scope's job takes
// systemd a while; the rest is made meanwhile, of containers too.
func (j job) share(ctx context.Context, cfg container.SandboxConfig, m *made, ahead *ahead) (err error) {
	if m.sandbox, err = container.StartSandbox(ctx, cfg); err != nil {
		return err
	}
	m.grant = j.grant
	if scope.QOS(j.pod) == v1.PodQOSGuaranteed {
		m.grant = j.w.agent.cores.begin(string(j.w.uid))
	}
	unit := j.scopeSpec(m.sandbox.PID, m.grant)
	m.limits = unit.Resources.String()
	var made scope.Unit
	started := make(chan error, 1)
	go func() {
		var err error
		made, err = j.w.agent.cfg.Scopes.Start(ctx, unit)
		ahead.enough()
		started <- err
	}()
	m.ips, err = j.attach(ctx, m.sandbox)
	if err == nil {
		err = j.writeEtc(cfg.Hostname, m.ips, cfg.Users)
	}
	if err == nil {
		m.ahead = j.in(*m).furnished(ctx, ahead.end())
	}
	if err := errors.Join(<-started, err); err != nil {
		return err
	}
	m.unit = made
	if err := j.w.agent.moveHelpers(m.unit.Cgroup, m.grant); err != nil {
		return err
	}
	if err := j.may(ctx); err != nil {
		return err
	}
	return container.MountShm(cfg)
}

// in is the job with the sandbox that was made for it.
func (j job) in(m made) job {
	j.sandbox, j.volumes, j.grant, j.ips, j.oci = m.sandbox, m.volumes, m.grant, m.ips, m.oci
	return j
}

func (a *Agent) ociRuntime(p *v1.Pod) (string, error) {
	if a.cfg.OCI == nil {
		return "", nil
	}
	return a.cfg.OCI(p)
}

func (j job) scopeSpec(pause int, g cpuset.Grant) scope.Spec {
	slice, bound := scope.Slice(scope.QOS(j.pod)), ""
	if j.leave != nil {
		slice, bound = scope.ExclusiveSliceOf(scope.QOS(j.pod)), LeaseUnit
	}
	return scope.Spec{
		Name:        scope.UnitName(j.pod.Namespace, j.pod.Name, string(j.w.uid)),
		Slice:       slice,
		BindsTo:     bound,
		Description: fmt.Sprintf("pod %s/%s", j.pod.Namespace, j.pod.Name),
		PIDs:        []int{pause},
		Resources:   j.w.agent.podResources(j.pod, g),
		// The host may go down while the pod runs. Zero would not be none.
		StopTimeout: max(pod.GracePeriod(j.pod), time.Second),
	}
}

// attach gives the pod its addresses; a pod in the host's network has the host's.
func (j job) attach(ctx context.Context, sb container.Sandbox) ([]string, error) {
	if j.pod.Spec.HostNetwork {
		return j.w.agent.cfg.Node().IPs, nil
	}
	network := j.w.agent.network()
	if network == nil {
		return nil, errors.New("this host has no pod network (see `shoal status`); only pods with hostNetwork: true can run")
	}
	ports, err := hostPorts(j.pod)
	if err != nil {
		return nil, err
	}
	ref := podnet.PodRef{UID: string(j.w.uid), Namespace: j.pod.Namespace, Name: j.pod.Name}
	addrs, err := network.Attach(ctx, ref, sb.NetNS, ports)
	if err != nil {
		return nil, err
	}
	ips := make([]string, len(addrs))
	for i, a := range addrs {
		ips[i] = a.String()
	}
	return ips, nil
}

func hostPorts(p *v1.Pod) ([]podnet.HostPort, error) {
	var ports []podnet.HostPort
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			for _, port := range c.Ports {
				if port.HostPort == 0 {
					continue
				}
				h := podnet.HostPort{HostPort: uint16(port.HostPort), ContainerPort: uint16(port.ContainerPort)}
				if err := h.Protocol.UnmarshalText([]byte(port.Protocol)); err != nil {
					return nil, err
				}
				if port.HostIP != "" {
					ip, err := netip.ParseAddr(port.HostIP)
					if err != nil {
						return nil, fmt.Errorf("hostIP: %w", err)
					}
					h.HostIP = ip
				}
				ports = append(ports, h)
			}
		}
	}
	return ports, nil
}

func sysctls(spec *v1.PodSpec) map[string]string {
	if spec.SecurityContext == nil {
		return nil
	}
	m := make(map[string]string)
	for _, s := range spec.SecurityContext.Sysctls {
		m[s.Name] = s.Value
	}
	return m
}

// hostname is what the pod is called in its own /etc/hosts: its name unless the
// spec gives another, cut to 63 bytes (the kubelet's GeneratePodHostNameAndDomain).
func (j job) hostname() string {
	name := cmp.Or(j.pod.Spec.Hostname, j.pod.Name)
	if o := j.pod.Spec.HostnameOverride; o != nil {
		name = *o
	}
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-.")
	}
	return name
}

// nodename is what the kernel calls the pod's host: with setHostnameAsFQDN the
// whole name, which has to fit into 64 bytes (the kubelet's GetNodenameForKernel).
func (j job) nodename() (string, error) {
	name, s := j.hostname(), &j.pod.Spec
	if s.SetHostnameAsFQDN == nil || !*s.SetHostnameAsFQDN || s.Subdomain == "" || s.HostnameOverride != nil {
		return name, nil
	}
	name = qualified(j.pod, name, j.w.agent.cfg.Domain)
	if len(name) > 64 {
		return "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (64 characters is the max, %d characters requested)", name, len(name))
	}
	return name, nil
}

// writeEtc writes the files that the runtime mounts over those of the image.
func (j job) writeEtc(nodename string, ips []string, users container.Users) error {
	resolv, err := j.w.agent.cfg.ResolvConf(j.pod)
	if err != nil {
		return fmt.Errorf("resolv.conf: %w", err)
	}
	files := map[string]string{
		"resolv.conf": resolv,
		"hosts":       hostsFile(j.pod, j.hostname(), j.w.agent.cfg.Domain, ips, j.w.agent.hostsOfHost),
		"hostname":    nodename + "\n",
	}
	for name, text := range files {
		file := filepath.Join(j.w.dir(), "etc-"+name)
		if err := errors.Join(os.WriteFile(file, []byte(text), 0o644), j.give(users, file)); err != nil {
			return fmt.Errorf("write pod's %s: %w", name, err)
		}
	}
	return nil
}

// stopSandbox takes down what startSandbox made, except the volumes: they live
// as long as the pod does.
func (j job) stopSandbox(ctx context.Context) func() {
	ctx = context.WithoutCancel(ctx) // what is begun here must end
	w := j.w
	err := w.agent.takeDown(ctx, j.pod, j.unit)
	if over := j.status.Phase == v1.PodSucceeded || j.status.Phase == v1.PodFailed; over && err == nil {
		err = errors.Join(volume.Teardown(ctx, filepath.Join(w.lib(), "subpaths")), volume.Teardown(ctx, filepath.Join(w.lib(), "volumes")))
	}
	return func() {
		w.state.Ready, w.state.Limits = false, ""
		if err == nil {
			w.agent.cores.stopped(string(w.uid))
		}
		before := w.seen.Sandbox
		w.seen.Sandbox = pod.Sandbox{Failure: before.Failure}
		if err != nil {
			w.seen.Sandbox.StopFailure = before.StopFailure
			w.sandboxStays(err)
		}
		w.save()
	}
}

// sandboxStays notes why something of the pod could not be taken away, for the
// next try and for people.
func (w *worker) sandboxStays(err error) {
	w.agent.log.Error("can't take a pod down", "pod", w.name(), "err", err)
	w.agent.cfg.Events.Warning(reference(w.pod, ""), reasonFailedKill, "error killing pod: %v", err)
	w.seen.Sandbox.Present = true
	w.seen.Sandbox.StopFailure = w.failure(w.pod, reasonFailedKill, err, w.seen.Sandbox.StopFailure)
}

// takeDown ends every process of a pod and frees its scope, network, bundles
// and roots. It may be repeated, and knows no more than the pod's identity.
func (a *Agent) takeDown(ctx context.Context, p *v1.Pod, unit string) error {
	dir := filepath.Join(a.cfg.Run, string(p.UID))
	errs := []error{a.removeAttempts(ctx, p.UID, nil)}
	if unit == "" {
		unit = scope.UnitName(p.Namespace, p.Name, string(p.UID))
	}
	errs = append(errs, a.cfg.Scopes.Stop(ctx, unit))
	if n := a.network(); n != nil {
		errs = append(errs, n.Detach(ctx, string(p.UID)))
	}
	errs = append(errs, container.StopSandbox(dir))
	return errors.Join(errs...)
}

// remove takes away the last traces of a pod: volumes, roots, logs, state. That
// the pod is to go must not be forgotten after that: a pod that is over, and
// whose file came back meanwhile, would count as one that has run.
func (a *Agent) remove(ctx context.Context, p *v1.Pod) error {
	ctx = context.WithoutCancel(ctx)
	if a.cfg.Flush != nil {
		if err := a.cfg.Flush(); err != nil {
			a.log.Error("a pod is removed, and the disk does not take that it was to be", "pod", p.Namespace+"/"+p.Name, "err", err)
		}
	}
	lib := filepath.Join(a.cfg.Lib, string(p.UID))
	if err := volume.Teardown(ctx, lib); err != nil {
		return err
	}
	a.users.free(p.UID)
	return errors.Join(
		os.RemoveAll(a.LogDir(p)),
		os.RemoveAll(filepath.Join(a.cfg.Run, string(p.UID))),
	)
}

func subdirectories(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}
