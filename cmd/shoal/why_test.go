package main

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/manifests"
)

func TestWhySaysWhatIsWrong(t *testing.T) {
	h := newHost(t)
	must(t, h.shoal("apply", "-f", "-"), podYAML)
	says := func(want string, code int, args ...string) {
		t.Helper()
		out, got := try(t, h.shoal(append([]string{"why"}, args...)...), "")
		if out != want || got != code {
			t.Errorf("why %v: got exit code %d and:\n%s\nwant %d and:\n%s", args, got, out, code, want)
		}
	}
	says("default/web runs and is ready.\n", 0, "web")
	says("1 pod: all well\n", 0)
	says("0 pods: all well\n", 0, "-n", "shop")
	says("error: \"deploy/web\" is no pod: name one (shoal get pods), or node NODE, or give no name to hear of all\n", 1, "deploy/web")
	says("error: pods \"db\" not found\n", 1, "db")
	says("error: pods \"web\" not found; there is one in namespace default: shoal why -n default web\n", 1, "-n", "shop", "web")

	must(t, h.shoal("patch", "pod", "web", "--subresource=status", "--type=strategic", "-p",
		`{"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "message": "gate x"}]}}`), "")
	unready := "default/web runs and is not ready: ReadinessGatesNotReady.\n  Ready: gate x\n"
	says(unready, 0, "pod/web")

	h.Shoal.Sources = api.ManifestList{Sources: []api.ManifestSource{{Path: "/etc/shoal/manifests/db.yaml", State: api.StateStale,
		Problems: []api.ManifestProblem{{Line: 7, Column: 3, Message: `unknown field "x"`, Suggestion: "y"}}}}}
	wrong := "  /etc/shoal/manifests/db.yaml:7:3: unknown field \"x\" (did you mean y?)\n"
	says("error: pods \"db\" not found; these files are wrong:\n"+wrong, 1, "db")
	says(unready+"\nfiles that are wrong, and change nothing until they are mended:\n"+wrong, 0)
}

func TestWhyReadsWhatContainersWroteLast(t *testing.T) {
	h := newHost(t)
	must(t, h.shoal("apply", "-f", "-"), podYAML)
	must(t, h.shoal("patch", "pod", "web", "--subresource=status", "--type=merge", "-p", `{"status": {
		"conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
		"containerStatuses": [{"name": "main", "image": "x", "imageID": "x", "ready": false, "restartCount": 1, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}}`), "")
	o, _ := h.View.Get(manifests.Key{Kind: "Pod", Namespace: "default", Name: "web"})
	if err := h.Pods.Log(o.(*v1.Pod), "main", 0, "2026-11-21T08:00:00.1Z stderr F touch: /x: Read-only file system\n"); err != nil {
		t.Fatal(err)
	}
	want := `default/web runs and is not ready: ContainersNotReady.
container main (spec.containers[0]): ended, Error
  it ended with exit code 1: Error
  it wrote last:
    touch: /x: Read-only file system
  -> spec.containers[0].securityContext.readOnlyRootFilesystem: mount an emptyDir where the program writes (/x)
`
	if got := must(t, h.shoal("why", "web"), ""); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestWhyFindsTheCauseBehindLongLines(t *testing.T) {
	h := newHost(t)
	must(t, h.shoal("apply", "-f", "-"), podYAML)
	must(t, h.shoal("patch", "pod", "web", "--subresource=status", "--type=merge", "-p", `{"status": {
		"conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
		"containerStatuses": [{"name": "main", "image": "x", "imageID": "x", "ready": false, "restartCount": 1, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}}`), "")
	o, _ := h.View.Get(manifests.Key{Kind: "Pod", Namespace: "default", Name: "web"})
	long := "2026-11-21T08:00:00.1Z stderr F " + strings.Repeat("x", 8000) + "\n"
	if err := h.Pods.Log(o.(*v1.Pod), "main", 0, strings.Repeat(long, 30)+"2026-11-21T08:00:00.2Z stderr F touch: /x: Read-only file system\n"); err != nil {
		t.Fatal(err)
	}
	got := must(t, h.shoal("why", "web"), "")
	if !strings.Contains(got, "-> spec.containers[0].securityContext.readOnlyRootFilesystem") || len(got) > 4000 {
		t.Errorf("got %d bytes:\n%s", len(got), got)
	}
}
