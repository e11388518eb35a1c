package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/cpuset"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/scope"
	"github.com/shoal-project/shoal/storage/volume"
)

// heard keeps what was said of pods.
type heard struct{ reasons []string }

func (h *heard) Normal(_ v1.ObjectReference, reason, _ string, _ ...any) {
	h.reasons = append(h.reasons, reason)
}

func (h *heard) Warning(_ v1.ObjectReference, reason, _ string, _ ...any) {
	h.reasons = append(h.reasons, reason)
}

// scopes is a host that keeps the limits of one scope, or fails.
type scopes struct {
	scope.Host
	limits scope.Resources
	err    error
}

func (s *scopes) Update(_ context.Context, _ string, r scope.Resources) error {
	if s.err == nil {
		s.limits = r
	}
	return s.err
}

// configMaps are objects that pods refer to.
type configMaps map[string]string

func (m configMaps) ConfigMap(_, name string) (*v1.ConfigMap, bool) {
	text, ok := m[name]
	return &v1.ConfigMap{Data: map[string]string{"key": text}}, ok
}

func (configMaps) Secret(string, string) (*v1.Secret, bool) { return nil, false }

// settle waits until no operation is under way.
func (w *worker) settle(t *testing.T) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for len(w.cancel) > 0 {
		select {
		case <-w.ringing:
			w.receive()
		case <-deadline:
			t.Fatal("an operation does not end")
		}
	}
}

func TestASignalThatFailedWasNotSent(t *testing.T) {
	w := newTestWorker(t)
	w.agent.cfg.Events = &heard{}
	w.seen.Containers["main"] = pod.Container{Current: &pod.Attempt{State: pod.Running}}
	w.kill(t.Context(), pod.Action{Verb: pod.Kill, Container: "main"}) // there is no such bundle
	got := w.seen.Containers["main"]
	if got.Current.Killed || !got.Current.Signalled.IsZero() || got.StopFailure == nil {
		t.Errorf("got %+v, %+v; want no KILL noted, and why", got.Current, got.StopFailure)
	}
}

func TestAContainerThatLetsNoSignalsInIsKilledThroughItsCgroup(t *testing.T) {
	w := newTestWorker(t)
	w.state.Cgroup = t.TempDir()
	denied := fmt.Errorf("signal 7 with SIGKILL: %w", syscall.EACCES)
	if err := w.killCgroup("main", denied); !errors.Is(err, denied) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
	kill := filepath.Join(w.state.Cgroup, container.Leaf("main"), "cgroup.kill")
	if err := errors.Join(os.MkdirAll(filepath.Dir(kill), 0o700), os.WriteFile(kill, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := w.killCgroup("main", denied); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(kill); string(got) != "1" {
		t.Errorf("%q was written", got)
	}
	w.agent.cfg.Containers.CgroupManager = "disabled"
	if err := w.killCgroup("main", denied); err != denied {
		t.Errorf("in a cgroup of the whole pod: %v", err)
	}
}

func TestTheScopeFollowsTheSpecWithoutAContainer(t *testing.T) {
	w := newTestWorker(t)
	host := &scopes{err: errors.New("no bus")}
	w.agent.cfg.Events, w.agent.cfg.Scopes = &heard{}, host
	w.agent.cfg.Limits.Controllers = []string{"cpu", "memory", "pids"}
	w.state.Ready, w.seen.Sandbox.Ready = true, true
	w.pod.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceMemory: resource.MustParse("64Mi")}
	follow := func() bool {
		w.seen.Sandbox.Ready, w.seen.Sandbox.Busy = true, true // no pause process here to look at
		w.observe()
		if !w.seen.Sandbox.Outgrown {
			return false
		}
		w.act(t.Context(), pod.Decision{Do: []pod.Action{{Verb: pod.ResizeSandbox}}})
		return true
	}
	if !follow() || w.seen.Sandbox.ResizeFailure == nil || !follow() {
		t.Fatal("an update that failed passes for done")
	}
	host.err = nil
	if !follow() || w.seen.Sandbox.ResizeFailure != nil || follow() {
		t.Fatal("an update that worked is not done with")
	}
	w.pod.Spec.Containers[0].Resources.Limits[v1.ResourceMemory] = resource.MustParse("128Mi")
	if !follow() || host.limits.MemoryMax == nil || *host.limits.MemoryMax != 128<<20 {
		t.Errorf("got %v; want the raised limit", host.limits)
	}
	if s, err := readState(w.dir()); err != nil || s.Limits != host.limits.String() {
		t.Errorf("saved %+v, %v; want %q", s, err, host.limits)
	}
}

func TestVolumesFollowTheirObjects(t *testing.T) {
	w := newTestWorker(t)
	said, objects := &heard{}, configMaps{"settings": "old"}
	w.agent.cfg.Events, w.agent.cfg.Objects = said, objects
	mode := int32(0o644)
	w.pod.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{
		LocalObjectReference: v1.LocalObjectReference{Name: "settings"}, DefaultMode: &mode,
	}}}}
	w.agent.workers[w.uid] = w
	refresh := func() string {
		t.Helper()
		if !w.seen.Volumes.Stale {
			t.Fatal("nobody noticed")
		}
		w.act(t.Context(), pod.Decision{Do: []pod.Action{{Verb: pod.Refresh}}})
		if !w.seen.Volumes.Busy || w.seen.Volumes.Stale {
			t.Fatalf("got %+v while a refresh is under way", w.seen.Volumes)
		}
		w.settle(t)
		text, _ := os.ReadFile(filepath.Join(w.volumes["v"].Path, "key"))
		return string(text)
	}
	w.stale()
	if got := refresh(); got != "old" || w.seen.Volumes.Stale || w.seen.Volumes.Missing {
		t.Fatalf("got %q, %+v", got, w.seen.Volumes)
	}
	objects["settings"] = "new"
	w.agent.Look("default")
	w.receive()
	if got := refresh(); got != "new" {
		t.Errorf("got %q; want what the object holds", got)
	}
	delete(objects, "settings")
	w.agent.Look("default")
	w.receive()
	got := refresh()
	if v := w.seen.Volumes; got != "new" || !v.Stale || v.Missing || v.Failure == nil || !slices.Contains(said.reasons, "FailedMount") {
		t.Errorf("got %q, %+v, events %v; want the old content, and another try", got, v, said.reasons)
	}
}

// A directory that a pod mounted from the host is gone: what runs has it still,
// and what starts must say so itself.
func TestAVolumeThatWasFoundStaysFound(t *testing.T) {
	w := newTestWorker(t)
	w.agent.cfg.Events = &heard{}
	dir, kind := filepath.Join(t.TempDir(), "d"), v1.HostPathDirectory
	w.pod.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: dir, Type: &kind}}}}
	w.volumes = map[string]volume.Mounted{"v": {Path: dir}}
	w.job().refreshVolumes(t.Context())()
	if v := w.seen.Volumes; w.volumes["v"].Path != dir || v.Missing || !v.Stale || v.Failure == nil {
		t.Errorf("got %+v, %+v", w.volumes, v)
	}
}

func TestEditedLabelsShowInVolumes(t *testing.T) {
	w := newTestWorker(t)
	w.pod.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{}}}}
	w.update(w.pod.DeepCopy())
	w.receive()
	if w.seen.Volumes.Stale {
		t.Error("volumes are stale though nothing was edited")
	}
	edited := w.pod.DeepCopy()
	edited.Labels = map[string]string{"a": "b"}
	w.update(edited)
	w.receive()
	if !w.seen.Volumes.Stale {
		t.Error("a label was edited and no volume is stale")
	}
}

// What is made for a pod is called off when it is of no use any more.
func TestMakingIsCalledOff(t *testing.T) {
	for name, change := range map[string]struct {
		off bool
		do  func(w *worker, p *v1.Pod)
	}{
		"another image":    {true, func(w *worker, p *v1.Pod) { p.Spec.Containers[0].Image = "b"; w.update(p) }},
		"another label":    {false, func(w *worker, p *v1.Pod) { p.Labels = map[string]string{"a": "b"}; w.update(p) }},
		"the deadline":     {true, func(w *worker, p *v1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64); w.update(p) }},
		"the pod is to go": {true, func(w *worker, p *v1.Pod) { p.DeletionTimestamp = p.CreationTimestamp.DeepCopy(); w.update(p) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTestWorker(t)
			w.agent.cfg.Publish = func(context.Context, *v1.Pod, v1.PodStatus, bool) {}
			w.pod.Spec.Containers[0].Image = "a"
			w.pod.CreationTimestamp.Time = time.Now()
			w.decide() // it has a start time now
			contexts := make(chan context.Context, 1)
			w.begin(t.Context(), "main", func(ctx context.Context) func() {
				contexts <- ctx
				<-ctx.Done()
				return func() {}
			})
			w.making("main")
			change.do(w, w.pod.DeepCopy())
			w.receive()
			w.decide()
			if off := (<-contexts).Err() != nil; off != change.off {
				t.Errorf("called off: %v, want %v", off, change.off)
			}
			w.waitForOperations()
		})
	}
}

func TestAScopeWaitsForThePodsGraceWhenTheHostGoesDown(t *testing.T) {
	w := newTestWorker(t)
	for seconds, want := range map[int64]time.Duration{90: 90 * time.Second, 0: time.Second} {
		w.pod.Spec.TerminationGracePeriodSeconds = &seconds
		if got := w.job().scopeSpec(1, cpuset.Grant{}).StopTimeout; got != want {
			t.Errorf("grace %d s: got %s, want %s", seconds, got, want)
		}
	}
}

func TestImagesOfLiveContainersAreInUse(t *testing.T) {
	w := newTestWorker(t)
	w.agent.workers[w.uid] = w
	w.seen.Containers["main"] = pod.Container{Current: &pod.Attempt{State: pod.Running, StoreID: "sha256:runs"}}
	w.seen.Containers["done"] = pod.Container{Current: &pod.Attempt{State: pod.Exited, StoreID: "sha256:done"}}
	w.containerState("made").Starting = &pod.Attempt{StoreID: "sha256:made"}
	w.save()
	if got := fmt.Sprint(w.agent.ImagesInUse()); got != "map[sha256:done:true sha256:made:true sha256:runs:true]" {
		t.Errorf("got %s", got)
	}
	w.status.Phase = v1.PodFailed
	w.save()
	if w.agent.ImagesInUse()["sha256:done"] {
		t.Error("a pod that is over keeps its images")
	}
}

func TestExecDoesNotWaitForAPodThatIsGone(t *testing.T) {
	w := newTestWorker(t)
	w.agent.workers[w.uid] = w
	close(w.ended)
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	if _, err := w.agent.Exec(ctx, w.pod, "main", container.ExecOptions{}); err == nil || ctx.Err() != nil {
		t.Errorf("got %v", err)
	}
}

func TestTheStateOfANewerDaemonIsRefused(t *testing.T) {
	w := newTestWorker(t)
	w.save()
	if pods, err := w.agent.Found(); err != nil || len(pods) != 1 {
		t.Fatalf("got %d pods, %v", len(pods), err)
	}
	// In a newer format anything but the number may mean something else.
	newer, _ := json.Marshal(map[string]any{"format": stateFormat + 1, "pod": "p", "containers": 3})
	if err := os.WriteFile(filepath.Join(w.dir(), stateFile), newer, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.agent.Found(); !errors.Is(err, ErrNewerState) {
		t.Errorf("newer: got %v", err)
	}
	if err := os.Remove(filepath.Join(w.dir(), stateFile)); err != nil {
		t.Fatal(err)
	}
	if pods, err := w.agent.Found(); err != nil || len(pods) != 0 {
		t.Errorf("none: got %d pods, %v", len(pods), err)
	}
	if err := os.Mkdir(filepath.Join(w.dir(), stateFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := w.agent.Found(); err == nil {
		t.Error("a state that can't be read passes for none")
	}
}

func TestLogsOfOtherKubeletsStay(t *testing.T) {
	for dir, want := range map[string]bool{
		"default_web_12345678-1234-8123-8123-123456789abc":           true,
		"kube-system_coredns_0f2b1a3c-6d5e-4f70-8a91-b2c3d4e5f607":   false, // an apiserver's UID
		"kube-system_etcd-node1_0123456789abcdef0123456789abcdef":    false, // a static pod's
		"kube-system_etcd-node1_0123456789ab8def8123456789abcdef":    false, // one that happens to look like version 8
		"x_default_web_12345678-1234-8123-8123-123456789abc":         false,
		"default_web_12345678-1234-8123-8123-123456789abc-something": false,
		"": false,
	} {
		if got := ownLogs(dir); got != want {
			t.Errorf("%s: got %v, want %v", dir, got, want)
		}
	}
}

func TestCommandsThatCantBeExecutedAreToldFromOtherFailures(t *testing.T) {
	for text, want := range map[string]bool{
		"container create failed: executable file `nope` not found in $PATH: No such file or directory":                                       true, // crun
		"container create failed: open executable: Permission denied":                                                                         true, // crun
		`container create failed: runc create failed: unable to start container process: exec: "nope": executable file not found in $PATH`:    true, // runc
		`container create failed: runc create failed: unable to start container process: exec: "/etc": is a directory: permission denied`:     true,
		"container create failed: mount `/srv/nope` to `srv`: No such file or directory":                                                      false,
		"container create failed: creating cgroup directory `/sys/fs/cgroup/shoal.slice/x`: Permission denied":                                false,
		"container create failed: writing file `memory.max`: Invalid argument":                                                                false,
		`container create failed: runc create failed: error mounting "/srv/nope" to rootfs at "/executable": stat: no such file or directory`: false,
	} {
		err := fmt.Errorf("wrapped: %w", &container.Error{Reason: container.CreateContainerError, Err: errors.New(text)})
		if got := isStartError(err); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

func TestOnlyTheEndOfALogIsRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "0.log")
	line := func(text string) string { return "2026-11-21T07:44:00.000000000+00:00 stdout F " + text + "\n" }
	if err := os.WriteFile(file, []byte(line("first")+line("second")), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tailOfLog(file); got != "first\nsecond\n" {
		t.Errorf("got %q", got)
	}
	if err := os.WriteFile(file, []byte(line(strings.Repeat("x", 100<<10))+line("last")), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tailOfLog(file); got != "last\n" {
		t.Errorf("got %.100q; want nothing of a line whose beginning was not read", got)
	}
	if got := tailOfLog(file + ".none"); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestTerminationMessagesDoNotLieInMemory(t *testing.T) {
	w := newTestWorker(t)
	c := &v1.Container{Name: "main", TerminationMessagePath: "/dev/termination-log"}
	mounts, err := w.job().etcMounts(c, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := mounts[len(mounts)-1].Source
	if !strings.HasPrefix(file, w.agent.cfg.Lib) {
		t.Errorf("%s is not below %s", file, w.agent.cfg.Lib)
	}
	if err := os.WriteFile(file, []byte("why"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := w.terminationMessage(c, pod.Attempt{}); got != "why" {
		t.Errorf("got %q", got)
	}
}
