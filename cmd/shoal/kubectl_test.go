package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/manifests"
)

const podYAML = `apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: main, image: busybox, command: [sleep, "1000"]}
`

// client runs kubectl's commands: shoal's own, or a kubectl binary through
// shoal proxy.
type client func(args ...string) *exec.Cmd

// TestEveryClientWorks drives the same story by shoal and by each kubectl that
// can be had: the machine's, and the one of Debian 12 (version 1.20) where
// SHOAL_TEST_KUBECTL names it.
func TestEveryClientWorks(t *testing.T) {
	clients := map[string]func(*testing.T, *testHost) client{
		"shoal": func(_ *testing.T, h *testHost) client { return h.shoal },
	}
	for _, name := range append([]string{"kubectl"}, filepath.SplitList(os.Getenv("SHOAL_TEST_KUBECTL"))...) {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Logf("%s is not here", name)
			continue
		}
		clients[name] = func(t *testing.T, h *testHost) client { return throughProxy(t, h, path) }
	}
	for name, of := range clients {
		t.Run(filepath.Base(filepath.Dir(name))+"_"+filepath.Base(name), func(t *testing.T) {
			h := newHost(t)
			story(t, h, of(t, h))
		})
	}
}

// throughProxy is a kubectl that talks to shoal proxy.
func throughProxy(t *testing.T, h *testHost, kubectl string) client {
	proxy := start(t, h.shoal("proxy", "--port=0"))
	_, addr, _ := strings.Cut(proxy.want("Starting to serve on"), "on ")
	home := t.TempDir()
	return func(args ...string) *exec.Cmd {
		c := exec.CommandContext(t.Context(), kubectl, append([]string{"-s", "http://" + addr}, args...)...)
		c.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
		return c
	}
}

func story(t *testing.T, h *testHost, c client) {
	wants := func(out string, all ...string) {
		t.Helper()
		for _, text := range all {
			if !strings.Contains(out, text) {
				t.Errorf("want %q in:\n%s", text, out)
			}
		}
	}
	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		if !t.Run(name, f) {
			t.FailNow()
		}
	}
	step("apply", func(t *testing.T) {
		wants(must(t, c("apply", "-f", "-"), podYAML), "pod/web created")
		wants(must(t, c("apply", "-f", "-"), podYAML), "pod/web unchanged")
		wants(must(t, c("apply", "-f", "-"), strings.Replace(podYAML, "app: web", "app: web, tier: front", 1)), "pod/web configured")
	})
	step("apply refuses an unknown field", func(t *testing.T) {
		out, code := try(t, c("apply", "-f", "-"), strings.Replace(podYAML, "image:", "imaeg: x, image:", 1))
		if code == 0 || !strings.Contains(out, "imaeg") {
			t.Errorf("exit code %d\n%s", code, out)
		}
	})
	step("get", func(t *testing.T) {
		wants(must(t, c("get", "pods"), ""), "NAME", "READY", "web    1/1     Running   0 ")
		wants(must(t, c("get", "po", "-o", "wide", "--show-labels"), ""), "10.1.0.7", "n1", "tier=front")
		wants(must(t, c("get", "pod", "web", "-o", "jsonpath={.spec.containers[0].image}"), ""), "busybox")
		wants(must(t, c("get", "pods", "-l", "app=none"), ""), "No resources found")
		wants(must(t, c("get", "all,ns", "-A"), ""), "pod/web", "namespace/kube-system")
	})
	step("describe", func(t *testing.T) {
		wants(must(t, c("describe", "pod", "web"), ""), "Node:", "n1", "Image:", "busybox", "Events:")
	})
	step("label and annotate", func(t *testing.T) {
		wants(must(t, c("label", "pod", "web", "color=blue"), ""), "web labeled")
		wants(must(t, c("annotate", "pod", "web", "note=hi"), ""), "web annotated")
		wants(must(t, c("get", "pod", "-l", "color=blue", "-o", "name"), ""), "pod/web")
	})
	step("patch", func(t *testing.T) {
		wants(must(t, c("patch", "pod", "web", "-p", `{"metadata":{"labels":{"kind":"strategic"}}}`), ""), "patched")
		wants(must(t, c("patch", "pod", "web", "--type=json", "-p", `[{"op":"add","path":"/metadata/labels/kind","value":"json"}]`), ""), "patched")
		wants(must(t, c("patch", "pod", "web", "--type=merge", "-p", `{"metadata":{"labels":{"kind":null}}}`), ""), "patched")
		out, code := try(t, c("patch", "pod", "web", "-p", `{"spec":{"hostNetwork":true}}`), "")
		if code == 0 || !strings.Contains(out, "pod updates may not change fields other than") {
			t.Errorf("a change that needs another pod: exit code %d\n%s", code, out)
		}
	})
	step("create", func(t *testing.T) {
		wants(must(t, c("create", "configmap", "conf", "--from-literal=a=b"), ""), "configmap/conf created")
		out, code := try(t, c("create", "configmap", "conf", "--from-literal=a=b"), "")
		if code == 0 || !strings.Contains(out, "already exists") {
			t.Errorf("twice: exit code %d\n%s", code, out)
		}
		wants(must(t, c("create", "secret", "generic", "s", "--from-literal=a=b"), ""), "secret/s created")
		wants(must(t, c("create", "deployment", "d", "--image=busybox"), ""), "deployment.apps/d created")
		wants(must(t, c("create", "ns", "team"), ""), "namespace/team created")
		out, _ = try(t, c("create", "configmap", "conf", "-n", "nowhere"), "")
		wants(out, `namespaces "nowhere" not found`)
		wants(must(t, c("get", "deploy,cm,secret"), ""), "0/1", "Opaque")
		wants(must(t, c("apply", "--dry-run=server", "-f", "-"), strings.Replace(podYAML, "name: web", "name: dry", 1)), "created (server dry run)")
		if _, ok := h.View.Get(manifests.Key{Kind: "Pod", Namespace: "default", Name: "dry"}); ok {
			t.Error("a dry run wrote")
		}
	})
	step("explain", func(t *testing.T) {
		wants(must(t, c("explain", "pod.spec.containers.image"), ""), "Container image name")
		wants(must(t, c("explain", "deployment.spec.replicas"), ""), "Number of desired pods")
	})
	step("api-resources", func(t *testing.T) {
		wants(must(t, c("api-resources"), ""), "deployments", "cronjobs", "networking.k8s.io/v1")
	})
	step("edit", func(t *testing.T) {
		editor := filepath.Join(t.TempDir(), "editor")
		if err := os.WriteFile(editor, []byte("#!/bin/sh\nsed -i 's/^  a: /  changed: /' \"$1\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		edit := c("edit", "configmap", "conf")
		edit.Env = append(edit.Env, "KUBE_EDITOR="+editor)
		wants(must(t, edit, ""), "configmap/conf edited")
		wants(must(t, c("get", "cm", "conf", "-o", "yaml"), ""), "changed: b")
	})
	step("logs", func(t *testing.T) { logsStory(t, h, c) })
	step("exec", func(t *testing.T) { execStory(t, c) })
	step("attach", func(t *testing.T) {
		wants(must(t, c("attach", "web", "-i"), "given\n"), "given")
	})
	step("port-forward", func(t *testing.T) { forwardStory(t, c) })
	step("watch", func(t *testing.T) {
		w := start(t, c("get", "cm", "-w", "-o", "name"))
		w.want("configmap/conf")
		must(t, c("create", "cm", "later"), "")
		w.want("configmap/later")
	})
	step("wait", func(t *testing.T) {
		wants(must(t, c("wait", "pod/web", "--for=condition=Ready", "--timeout=20s"), ""), "condition met")
	})
	step("delete waits until the object is gone", func(t *testing.T) {
		d := start(t, c("delete", "pod", "web"))
		d.want(`"web" deleted`)
		select {
		case line, ok := <-d.out:
			t.Fatalf("ended before the pod did: %q, %v", line, ok)
		case <-time.After(300 * time.Millisecond): // it must not end by itself
		}
		if h.Writer.Finish() != 1 {
			t.Fatal("nothing was being deleted")
		}
		d.end()
		must(t, c("delete", "cm", "conf", "later"), "")
		must(t, c("delete", "ns", "team"), "")
		must(t, c("delete", "secrets", "--all"), "")
		wants(must(t, c("get", "cm,secrets,pods"), ""), "No resources found")
	})
}

func logsStory(t *testing.T, h *testHost, c client) {
	o, _ := h.View.Get(manifests.Key{Kind: "Pod", Namespace: "default", Name: "web"})
	pod := o.(*v1.Pod)
	write := func(text string) {
		t.Helper()
		if err := h.Pods.Log(pod, "main", 0, "2026-11-21T08:00:00.123456789Z stdout F "+text+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	write("two")
	if got, want := must(t, c("logs", "web"), ""), "one\ntwo\n"; got != want {
		t.Errorf("logs: got %q, want %q", got, want)
	}
	if got, want := must(t, c("logs", "web", "--tail=1", "--timestamps"), ""), "2026-11-21T08:00:00.123456789Z two\n"; got != want {
		t.Errorf("tail: got %q, want %q", got, want)
	}
	f := start(t, c("logs", "-f", "web"))
	f.want("two")
	write("three")
	f.want("three")
	f.cmd.Process.Kill()
}

// forwardStory reaches a server of this host through the fake node's pod.
func forwardStory(t *testing.T, c client) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "from the pod") })}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	f := start(t, c("port-forward", "--address=127.0.0.1", "pod/web", ":"+port))
	addr := strings.Fields(f.want("Forwarding from"))[2]
	for range 3 {
		resp, err := http.Get("http://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		if string(body) != "from the pod" || err != nil {
			t.Errorf("got %q, %v", body, err)
		}
	}
	f.cmd.Process.Kill()
}

func execStory(t *testing.T, c client) {
	if got, want := must(t, c("exec", "web", "--", "echo", "hello"), ""), "hello\n"; got != want {
		t.Errorf("exec: got %q, want %q", got, want)
	}
	if got, want := must(t, c("exec", "-i", "web", "--", "tr", "a-z", "A-Z"), "shout"), "SHOUT"; got != want {
		t.Errorf("exec -i: got %q, want %q", got, want)
	}
	if out, code := try(t, c("exec", "web", "--", "sh", "-c", "echo oops >&2; exit 7"), ""); code != 7 || !strings.Contains(out, "oops") {
		t.Errorf("exit code: got %d, want 7\n%s", code, out)
	}
	big := must(t, c("exec", "web", "--", "head", "-c", "3000000", "/dev/zero"), "")
	if len(big) != 3000000 {
		t.Errorf("3,000,000 bytes: got %d", len(big))
	}
}
