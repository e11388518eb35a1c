package chaos

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestContainersThatEndWhileNoDaemonRuns(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	const released = `until test -e /srv/released; do sleep 0.1; done; echo last words; exit `
	scripts := map[string]string{"zero": released + "0", "seven": released + "7", "killed": released + "0"}
	mounts := "  volumes: [{name: run, hostPath: {path: /srv}}]\n"
	var pods []Pod
	for name, script := range scripts {
		f := &file{path: name + ".yaml", kind: kind{name: name, want: running("main"),
			spec: "  restartPolicy: Never\n" + mounts + containers(container("main", script, ", volumeMounts: [{name: run, mountPath: /srv}]"))}}
		h.write(f)
		pods = append(pods, f.pod())
	}
	s := h.settle(pods)
	victim := Containers(s, pods)["default/killed/main"].Init.PID
	before := h.seconds()
	h.shell(`systemctl stop shoald; kill -9 "$1"; touch /srv/released`, strconv.Itoa(victim))
	h.until(20*time.Second, func() string { // of their processes only the pauses are left
		var left []string
		for name := range Containers(h.look(), pods) {
			left = append(left, name)
		}
		return strings.Join(left, "\n")
	})
	after := h.seconds()
	h.shell("systemctl start shoald")
	for i := range pods {
		pods[i].Over, pods[i].Running = true, nil
	}
	h.settle(pods)
	for name, p := range h.pods() {
		want := map[string]int32{"zero": 0, "seven": 7, "killed": 137}[name]
		cs := p.Status.ContainerStatuses[0]
		if cs.State.Terminated == nil || cs.State.Terminated.ExitCode != want || cs.RestartCount != 0 {
			t.Errorf("%s: %+v, want exit code %d", name, cs, want)
			continue
		}
		if at := cs.State.Terminated.FinishedAt; at.Unix() < before || at.Unix() > after {
			t.Errorf("%s ended %v, want between %d and %d", name, at, before, after)
		}
		if log := h.shell(`cat /var/log/pods/default_"$1"_*/main/0.log`, name); name != "killed" && !strings.Contains(log, "last words") {
			t.Errorf("%s: its last words are missing: %q", name, log)
		}
	}
}

// A container whose supervisor was killed is ended by the next daemon: it is
// made anew, or goes with its pod, whose end nobody else sees.
func TestContainersWithoutTheirSupervisorWhileNoDaemonRuns(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var files []*file
	var pods []Pod
	for _, k := range kinds() {
		if k.name == "deaf" || k.name == "still" {
			f := &file{kind: k, path: k.name + ".yaml"}
			h.write(f)
			files, pods = append(files, f), append(pods, f.pod())
		}
	}
	before := Containers(h.settle(pods), pods)
	script := "systemctl stop shoald; rm " + manifests + files[0].path
	for _, c := range before {
		script += "; kill -9 " + strconv.Itoa(c.Conmon.PID)
	}
	h.shell(script + "; systemctl start shoald")
	after := Containers(h.settle(pods[1:]), pods[1:])
	for name, c := range after {
		if c.Number == before[name].Number {
			t.Errorf("%s runs on without what was written of it", name)
		}
	}
}

// seconds is the host's clock.
func (h host) seconds() int64 {
	h.t.Helper()
	n, err := strconv.ParseInt(h.shell("date +%s"), 10, 64)
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

// A daemon that dies between the two steps of a log's rotation leaves no log of that name, and conmon writes to the old
// one. The next daemon finishes the rotation.
func TestLogsAfterHalfARotation(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	f := &file{path: "count.yaml", kind: kind{name: "count", want: running("main"), spec: containers(container("main", count, ""))}}
	h.write(f)
	h.settle([]Pod{f.pod()})
	h.shell("systemctl kill -s STOP shoald; cd /var/log/pods/default_count_*/main; mv 0.log 0.log.20260101-000000; systemctl kill -s KILL shoald")
	h.until(30*time.Second, func() string {
		return h.shell("cd /var/log/pods/default_count_*/main; test -s 0.log || ls -l")
	})
	log := h.shell("cd /var/log/pods/default_count_*/main; cat 0.log.* 0.log")
	n := 0
	for line := range strings.Lines(log) {
		if !strings.HasSuffix(strings.TrimSpace(line), " stdout F "+strconv.Itoa(n)) {
			t.Fatalf("line %d is %q", n, line)
		}
		n++
	}
	t.Logf("%d lines in two files", n)
}

// A pod is gone only when nothing of it is left: until then no other takes its name.
func TestAPodThatCannotBeRemovedStays(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	f := &file{path: "stuck.yaml", kind: kind{name: "stuck", want: running("main"),
		spec: "  volumes: [{name: data, emptyDir: {}}]\n" + containers(container("main", wait, ", volumeMounts: [{name: data, mountPath: /mnt}]"))}}
	h.write(f)
	h.settle([]Pod{f.pod()})
	uid := h.pods()["stuck"].UID
	h.shell("cd /var/lib/shoal/pods/*/volumes/data; touch kept; chattr +i kept; rm " + manifests + f.path)
	h.until(20*time.Second, func() string {
		if h.shell(`journalctl -q -u shoald -o cat | grep -c "can't take a pod down" || true`) == "0" {
			return "it was not tried to remove the pod"
		}
		return ""
	})
	h.write(f) // it is declared again
	h.shell("systemctl kill -s KILL shoald")
	h.until(20*time.Second, func() string {
		if out := h.shell("shoal get pods stuck -o name || true"); out != "pod/stuck" {
			return "no answer"
		}
		return ""
	})
	if p := h.pods()["stuck"]; p.UID != uid || p.DeletionTimestamp == nil {
		t.Errorf("got UID %s, deleted %v; want the old pod, %s", p.UID, p.DeletionTimestamp, uid)
	}
	h.shell("chattr -i /var/lib/shoal/pods/*/volumes/data/kept")
	h.until(time.Minute, func() string {
		if h.pods()["stuck"].UID == uid {
			return "the old pod is still there"
		}
		return ""
	})
	h.settle([]Pod{f.pod()})
}

// A power cut takes every process; the disk stays.
func TestReboot(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var files []*file
	for _, k := range kinds() {
		if k.name == "count-a" || k.name == "count-c" || k.name == "long" || k.want.Over || k.name == "port-a" || k.name == "prepared" {
			f := &file{kind: k, path: k.name + ".yaml"}
			h.write(f)
			files = append(files, f)
		}
	}
	pods := func() (list []Pod) {
		for _, f := range files {
			if f.path != "" {
				list = append(list, f.pod())
			}
		}
		return list
	}
	h.settle(pods())
	before := h.pods()

	// A file that goes when no daemon looks, as if somebody had mounted the disk elsewhere.
	for _, f := range files {
		if f.name == "long" {
			h.shell("systemctl stop shoald; rm " + manifests + f.path)
			f.path = ""
		}
	}
	if err := h.PowerCut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.settle(pods())
	after := h.pods()
	for _, f := range files {
		was, is := before[f.name], after[f.name]
		if f.path == "" {
			if is.Name != "" {
				t.Errorf("%s is back, and its file is not", f.name)
			}
			continue
		}
		if was.UID != is.UID {
			t.Errorf("%s has another UID", f.name)
		}
		for i, cs := range is.Status.ContainerStatuses {
			want := was.Status.ContainerStatuses[i].RestartCount
			if !f.want.Over {
				want++
			}
			if cs.RestartCount != want {
				t.Errorf("%s: restart count %d, want %d", f.name, cs.RestartCount, want)
			}
			if f.want.Over && (is.Status.Phase != was.Status.Phase || cs.State.Terminated == nil ||
				cs.State.Terminated.ExitCode != was.Status.ContainerStatuses[i].State.Terminated.ExitCode) {
				t.Errorf("%s: %s, %+v; want %s, %+v", f.name, is.Status.Phase, cs.State, was.Status.Phase, was.Status.ContainerStatuses[i].State)
			}
		}
	}
	if got := h.shell("ls /var/log/pods/default_done_*/main"); got != "0.log" {
		t.Errorf("a pod that is done ran again: %q", got)
	}
	if got := h.shell("cat /var/lib/shoal/pods/*/volumes/data/starts | wc -l"); got != "2" {
		t.Errorf("count-c's emptyDir has %s lines, want one of each start", got)
	}
}
