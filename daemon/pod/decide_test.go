package pod

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/shoal-project/shoal/daemon/probe"
)

var update = flag.Bool("update", false, "rewrite the expected outputs in testdata")

// epoch is virtual time zero of every story.
var epoch = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

// TestStories runs each testdata/*.txtar: a pod, and a script of what happens
// on the host. "decide" decides and, like the agent, carries out what was
// decided by changing what is observed; the expected output is all decisions.
//
//	after DURATION          time passes
//	decide                  decide and act until nothing more is to be done
//	sandbox lost            the pause process dies
//	exit NAME CODE [oom]    a container exits
//	fail NAME REASON        starting the container (or "sandbox", "volumes", "stop", "resize") fails from now on
//	heal NAME               it works from now on
//	delete SECONDS          the pod's deletion is asked for, with that grace
//	image NAME IMAGE        the pod is edited
//	cpu NAME LIMIT          the pod is edited
//	resize Deferred|Infeasible|had  the host can't give what an edit asks for; it has been given
//	stubborn NAME           the container ignores TERM
//	outgrown                the scope's limits are not those of the pod
//	stale [missing]         what the volumes hold has changed; one is not there
//	refreshing              a refresh of the volumes is under way, until "stale" or "fresh"
//	fresh                   it has ended
//	unsupervised NAME       conmon was killed
//	cleaning NAME           what an ended attempt left is being removed from now on
//	clean NAME              it has been
//	probe KIND NAME RESULT  a probe's threshold was reached: success, failure
//	hook NAME done|failed   the hook under way ended
//	dies                    the daemon is killed and started again: hooks are not under way any more
//	condition TYPE STATUS   somebody sets a condition of the pod
//	claim TOKEN | REASON    the host holds the pod's identity; it does not: NoLease, HeldByNode
//	claim leaving           the host hands over: nothing is begun any more
//	claim lost              the lease is lost under which the pod was begun
//	debug NAME              an ephemeral container is added
func TestStories(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	if len(files) == 0 {
		t.Fatal("no stories")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, section(archive, "pod.yaml"), section(archive, "script"))
			if *update {
				setSection(archive, "decisions", got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := section(archive, "decisions"); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func section(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

func setSection(a *txtar.Archive, name, data string) {
	for i := range a.Files {
		if a.Files[i].Name == name {
			a.Files[i].Data = []byte(data)
			return
		}
	}
	a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(data)})
}

// host plays the agent and the host it acts on.
type host struct {
	t        *testing.T
	pod      *v1.Pod
	seen     Observed
	now      time.Time
	failing  map[string]string
	stubborn map[string]bool
	out      strings.Builder
}

func tell(t *testing.T, podYAML, script string) string {
	h := &host{
		t: t, pod: &v1.Pod{}, now: epoch,
		seen:    Observed{Containers: map[string]Container{}, HostIPs: []string{"192.0.2.1"}},
		failing: map[string]string{}, stubborn: map[string]bool{},
	}
	if err := yaml.UnmarshalStrict([]byte(podYAML), h.pod); err != nil {
		t.Fatal(err)
	}
	if h.pod.Spec.RestartPolicy == "" {
		h.pod.Spec.RestartPolicy = v1.RestartPolicyAlways
	}
	for line := range strings.Lines(script) {
		h.step(strings.Fields(line))
	}
	return h.out.String()
}

func (h *host) step(f []string) {
	switch f[0] {
	case "after":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			h.t.Fatal(err)
		}
		h.now = h.now.Add(d)
	case "decide":
		h.decide()
	case "sandbox":
		h.seen.Sandbox.Ready = false
	case "exit":
		code, _ := strconv.Atoi(f[2])
		h.exit(f[1], code, len(f) > 3)
	case "fail":
		h.failing[f[1]] = f[2]
	case "evict":
		grace, _ := time.ParseDuration(f[1])
		h.seen.Ending = &Ending{Reason: "Evicted", Message: "The node was low on resource: memory. ", Grace: grace, Disruption: true, Since: h.now}
	case "shutdown":
		grace, _ := time.ParseDuration(f[1])
		h.seen.Ending = &Ending{Reason: "Terminated", Message: "Pod was terminated in response to imminent node shutdown.", Grace: grace, Disruption: true, Since: h.now}
	case "heal":
		delete(h.failing, f[1])
	case "delete":
		s, _ := strconv.ParseInt(f[1], 10, 64)
		at := metav1.NewTime(h.now.Add(time.Duration(s) * time.Second))
		h.pod.DeletionTimestamp, h.pod.DeletionGracePeriodSeconds = &at, &s
	case "image":
		h.pod.Generation++
		h.container(f[1]).Image = f[2]
	case "cpu":
		h.pod.Generation++
		r := v1.ResourceRequirements{}
		if err := yaml.Unmarshal([]byte("limits: {cpu: "+f[2]+"}"), &r); err != nil {
			h.t.Fatal(err)
		}
		h.container(f[1]).Resources = r
	case "debug":
		h.pod.Generation++
		h.pod.Spec.EphemeralContainers = append(h.pod.Spec.EphemeralContainers, v1.EphemeralContainer{
			EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: f[1], Image: "tools:1"},
		})
	case "claim":
		h.claim(f[1])
	case "resize":
		h.seen.Resize = &Failure{Reason: f[1], Message: "no room", At: h.now, Generation: h.pod.Generation}
		if f[1] == "had" {
			h.seen.Resize = nil
		}
	case "stubborn":
		h.stubborn[f[1]] = true
	case "outgrown":
		h.seen.Sandbox.Outgrown = true
	case "stale":
		h.seen.Volumes = Volumes{Stale: true, Missing: len(f) > 1}
	case "refreshing":
		h.seen.Volumes = Volumes{Busy: true}
	case "fresh":
		h.seen.Volumes = Volumes{}
	case "unsupervised":
		c := h.seen.Containers[f[1]]
		c.Unsupervised = true
		h.seen.Containers[f[1]] = c
	case "cleaning", "clean":
		c := h.seen.Containers[f[1]]
		c.Busy = f[0] == "cleaning"
		h.seen.Containers[f[1]] = c
	case "probe":
		h.probe(f[1], f[2], f[3])
	case "hook":
		h.hookEnded(f[1], Hook(f[2]))
	case "dies":
		for name, c := range h.seen.Containers {
			c.PostStarting, c.PreStopping = false, false
			h.seen.Containers[name] = c
		}
	case "condition":
		h.seen.Conditions = []v1.PodCondition{{Type: v1.PodConditionType(f[1]), Status: v1.ConditionStatus(f[2])}}
	default:
		h.t.Fatalf("unknown step %q", f)
	}
}

func (h *host) container(name string) *v1.Container {
	for _, list := range [][]v1.Container{h.pod.Spec.InitContainers, h.pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	for i := range h.pod.Spec.EphemeralContainers {
		if c := &h.pod.Spec.EphemeralContainers[i]; c.Name == name {
			return Ephemeral(c)
		}
	}
	h.t.Fatalf("no container %q", name)
	return nil
}

func (h *host) claim(how string) {
	token, err := strconv.ParseUint(how, 10, 64)
	switch {
	case err == nil:
		h.seen.Claim = &Claim{Held: true, Token: token, Reason: "Held"}
	case how == "lost":
		h.seen.Claim = &Claim{Lost: true, Token: h.seen.Claim.Token, Reason: "NoLease", Message: "this host has no lease"}
	case how == "leaving":
		h.seen.Claim = &Claim{Token: h.seen.Claim.Token, Reason: "NoLease", Message: "this host hands over"}
	default:
		h.seen.Claim = &Claim{Reason: how, Message: "broken on purpose"}
	}
}

func (h *host) exit(name string, code int, oom bool) {
	c := h.seen.Containers[name]
	if c.Current == nil || c.Current.State != Running {
		h.t.Fatalf("%s is not running", name)
	}
	a := *c.Current
	a.State, a.Finished, a.ExitCode, a.OOMKilled = Exited, h.now, code, oom
	c.Current = &a
	h.seen.Containers[name] = c
}

func (h *host) probe(kind, name, result string) {
	title := func(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
	c := h.seen.Containers[name]
	d := Decide(h.pod, h.seen, h.now)
	if !slices.Contains(d.Probe, Probed{name, c.Current.Number, probe.Kind(title(kind))}) {
		h.t.Fatalf("%s of %s is not to be probed, but %v", kind, name, d.Probe)
	}
	a := *c.Current
	a.Probes.Of(probe.Kind(title(kind))).Result = probe.Result(title(result))
	c.Current = &a
	h.seen.Containers[name] = c
}

func (h *host) hookEnded(name string, how Hook) {
	c := h.seen.Containers[name]
	a := *c.Current
	switch {
	case c.PostStarting:
		a.PostStart, c.PostStarting = how, false
	case c.PreStopping:
		a.PreStop, c.PreStopping = how, false
	default:
		h.t.Fatalf("%s runs no hook", name)
	}
	c.Current = &a
	h.seen.Containers[name] = c
}

// decide decides and acts until there is nothing more to do at this time.
func (h *host) decide() {
	for range 50 {
		d := Decide(h.pod, h.seen, h.now)
		again := Decide(h.pod, h.seen, h.now)
		if fmt.Sprint(d) != fmt.Sprint(again) || !d.Wake.Equal(again.Wake) {
			h.t.Fatal("the same observation decided differently")
		}
		if !d.Wake.IsZero() && d.Wake.Before(h.now) {
			h.t.Fatalf("wake %s is in the past of %s", d.Wake, h.now)
		}
		h.pod.Status = d.Status
		if len(d.Do) == 0 {
			h.report(d)
			return
		}
		for _, a := range d.Do {
			fmt.Fprintf(&h.out, "%-8s %s\n", h.now.Sub(epoch), a)
			h.act(a)
		}
	}
	h.t.Fatal("never at rest:\n" + h.out.String())
}

// report writes the state at rest.
func (h *host) report(d Decision) {
	s := d.Status
	fmt.Fprintf(&h.out, "%-8s = %s", h.now.Sub(epoch), s.Phase)
	if s.Reason != "" {
		fmt.Fprintf(&h.out, " %s", s.Reason)
	}
	for _, c := range s.Conditions {
		if c.Type == v1.PodReady {
			fmt.Fprintf(&h.out, " ready=%s", c.Status)
			if c.Reason != "" && c.Reason != "ContainersNotReady" && !over(s.Phase) {
				fmt.Fprintf(&h.out, ":%s", c.Reason)
			}
		}
		if c.Type == v1.PodResizePending || c.Type == v1.PodResizeInProgress {
			fmt.Fprintf(&h.out, " %s=%s:%s", c.Type, c.Status, c.Reason)
		}
		if c.Type == Exclusive {
			fmt.Fprintf(&h.out, " exclusive=%s:%s", c.Status, c.Reason)
		}
		if c.Type == v1.AllContainersRestarting && c.Status == v1.ConditionTrue {
			fmt.Fprint(&h.out, " restarting-all")
		}
	}
	for _, list := range [][]v1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for _, c := range list {
			fmt.Fprintf(&h.out, "; %s", c.Name)
			switch {
			case c.State.Running != nil:
				fmt.Fprint(&h.out, " running")
				if c.Started != nil && !*c.Started {
					fmt.Fprint(&h.out, " not started")
				}
				if !c.Ready && (h.hasProbe(c.Name) || c.Started != nil && !*c.Started) {
					fmt.Fprint(&h.out, " unready")
				}
			case c.State.Terminated != nil:
				fmt.Fprintf(&h.out, " %s(%d)", c.State.Terminated.Reason, c.State.Terminated.ExitCode)
			case c.State.Waiting != nil:
				fmt.Fprintf(&h.out, " waiting:%s", c.State.Waiting.Reason)
			}
			if c.RestartCount > 0 {
				fmt.Fprintf(&h.out, " x%d", c.RestartCount)
			}
			if l := c.LastTerminationState.Terminated; l != nil {
				fmt.Fprintf(&h.out, " last %s(%d)", l.Reason, l.ExitCode)
			}
		}
	}
	if d.Gone {
		fmt.Fprint(&h.out, "; gone")
	}
	for _, p := range d.Probe {
		fmt.Fprintf(&h.out, "; probe %s %s", strings.ToLower(string(p.Kind)), p.Container)
	}
	if !d.Wake.IsZero() {
		fmt.Fprintf(&h.out, "; wake %s", d.Wake.Sub(epoch))
	}
	fmt.Fprintln(&h.out)
}

func (h *host) hasProbe(name string) bool {
	c := h.container(name)
	return c.ReadinessProbe != nil || c.StartupProbe != nil
}

func (h *host) act(a Action) {
	c := h.seen.Containers[a.Container]
	defer func() {
		if a.Container != "" {
			h.seen.Containers[a.Container] = c
		}
	}()
	switch a.Verb {
	case StartSandbox:
		s := &h.seen.Sandbox
		if reason := h.failing["sandbox"]; reason != "" {
			s.Failure = h.failed(s.Failure, reason)
			return
		}
		*s = Sandbox{Ready: true, Present: true, IPs: []string{"10.244.0.2"}}
		for name, c := range h.seen.Containers {
			if c.Current != nil {
				old := *c.Current
				old.OldSandbox = true
				c.Current = &old
				h.seen.Containers[name] = c
			}
		}
	case StopSandbox:
		h.seen.Sandbox = Sandbox{}
		if c := h.seen.Claim; c != nil && c.Lost { // the agent asks anew
			h.claim("Asking")
		}
	case ResizeSandbox:
		s := &h.seen.Sandbox
		if reason := h.failing["resize"]; reason != "" {
			s.ResizeFailure = h.failed(s.ResizeFailure, reason)
			return
		}
		s.Outgrown, s.ResizeFailure = false, nil
	case Refresh:
		v := &h.seen.Volumes
		if reason := h.failing["volumes"]; reason != "" {
			v.Failure = h.failed(v.Failure, reason)
			return
		}
		*v = Volumes{}
	case Start:
		reason := h.failing[a.Container]
		if reason != "" && reason != StartError {
			c.Failure = h.failed(c.Failure, reason)
			return
		}
		spec := h.container(a.Container)
		if c.Current != nil {
			c.Backoff = c.Backoff.Restarted(c.Current.Finished, h.now)
			c.Last = Terminated(c.Current)
		}
		c.Failure = nil
		c.Current = &Attempt{Number: a.Number, State: Running, Started: h.now, Image: spec.Image, Resources: spec.Resources}
		if spec.Lifecycle != nil && spec.Lifecycle.PostStart != nil {
			c.Current.PostStart = HookPending
		}
		if reason == StartError {
			c.Current.State, c.Current.Finished = Exited, h.now
			c.Current.ExitCode, c.Current.Reason = StartErrorExitCode, StartError
		}
	case PostStart:
		c.PostStarting = true
	case PreStop:
		cur := *c.Current
		if cur.Stopping.IsZero() {
			cur.Stopping, cur.Grace, cur.PreStop = h.now, a.Grace, HookPending
		}
		c.Current, c.PreStopping = &cur, true
	case Reset:
		for name, c := range h.seen.Containers {
			if c.Current != nil {
				old := *c.Current
				old.Reset = true
				c.Current = &old
				h.seen.Containers[name] = c
			}
		}
	case Terminate:
		if h.failing["stop"] != "" {
			c.StopFailure = h.failed(c.StopFailure, h.failing["stop"])
			return
		}
		c.StopFailure = nil
		cur := *c.Current
		cur.Signalled, cur.Grace = h.now, a.Grace
		if !h.stubborn[a.Container] {
			cur.State, cur.Finished, cur.ExitCode = Exited, h.now, 143
		}
		c.Current = &cur
	case Kill:
		if h.failing["stop"] != "" {
			c.StopFailure = h.failed(c.StopFailure, h.failing["stop"])
			return
		}
		c.StopFailure, c.Unsupervised = nil, false
		cur := *c.Current
		cur.Killed, cur.State, cur.Finished, cur.ExitCode = true, Exited, h.now, 137
		c.Current = &cur
	case Resize:
		if h.failing["resize"] != "" {
			c.ResizeFailure = h.failed(c.ResizeFailure, h.failing["resize"])
			return
		}
		c.ResizeFailure = nil
		cur := *c.Current
		cur.Resources = h.container(a.Container).Resources
		c.Current = &cur
	}
}

func (h *host) failed(f *Failure, reason string) *Failure {
	tries := 1
	if f != nil && f.Generation == h.pod.Generation {
		tries = f.Tries + 1
	}
	return &Failure{Reason: reason, Message: "broken on purpose", At: h.now, Tries: tries, Generation: h.pod.Generation}
}
