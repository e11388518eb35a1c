package api_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

var webKey = manifests.Key{Kind: "Pod", Namespace: "default", Name: "web"}

// webPod runs on the test's node since its first attempt.
func webPod(state v1.ContainerState) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u1"},
		Spec:       v1.PodSpec{NodeName: "n1", Containers: []v1.Container{{Name: "main", Image: "busybox"}}},
		Status: v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{
			{Name: "main", ContainerID: "crun://0", State: state}}},
	}
}

var running = v1.ContainerState{Running: &v1.ContainerStateRunning{}}
var ended = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{}}

// logs is a node with the pod web, and the directory of its logs.
func logs(t *testing.T) (*client, string) {
	c := newClient(t)
	c.View.Apply(view.Change{Key: webKey, Object: webPod(running)})
	dir := filepath.Join(c.Pods.LogDir(webPod(running)), "main")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return c, dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func zip(t *testing.T, path, text string) {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, text)
	z.Close()
	write(t, path, b.String())
}

func TestLogOptions(t *testing.T) {
	c, dir := logs(t)
	zip(t, dir+"/1.log.20261121-070000.gz", "2026-11-21T06:00:00.5Z stdout F oldest\n")
	write(t, dir+"/1.log.20261121-080000", "2026-11-21T07:00:00Z stderr F old\n2026-11-21T07:00:01Z stdout P half \n")
	write(t, dir+"/1.log", "2026-11-21T08:00:00Z stdout F whole\n2026-11-21T09:00:00Z stdout F \n2026-11-21T09:30:00Z stderr F new\nnot CRI\n")
	write(t, dir+"/0.log", "2026-11-20T08:00:00Z stdout F before\n")
	all := "oldest\nold\nhalf whole\n\nnew\nnot CRI\n"
	for query, want := range map[string]string{
		"":                                 all,
		"container=main":                   all,
		"tailLines=0":                      "",
		"tailLines=1":                      "not CRI\n",
		"tailLines=4":                      "half whole\n\nnew\nnot CRI\n",
		"tailLines=5":                      "old\nhalf whole\n\nnew\nnot CRI\n",
		"tailLines=99":                     all,
		"limitBytes=9":                     "oldest\nol",
		"limitBytes=3&tailLines=1":         "not",
		"stream=Stderr":                    "old\nnew\nnot CRI\n",
		"stream=Stdout&limitBytes=7":       "oldest\n",
		"sinceTime=2026-11-21T09:00:00Z":   "\nnew\nnot CRI\n",
		"sinceSeconds=2700":                "new\nnot CRI\n", // the clock says 10:00
		"timestamps=true&tailLines=2":      "2026-11-21T09:30:00Z new\nnot CRI\n",
		"timestamps=true&limitBytes=28":    "2026-11-21T06:00:00.5Z oldes",
		"sinceSeconds=9223372036854775807": all,
	} {
		if got := c.get("/api/v1/namespaces/default/pods/web/log?" + query); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
}

func TestLogErrorsAreUpstreams(t *testing.T) {
	c, dir := logs(t)
	path := "/api/v1/namespaces/default/pods/web/log?"
	write(t, dir+"/0.log", "2026-11-20T08:00:00Z stdout F x\n")
	for query, want := range map[string]string{
		"container=no":                  "400 container no is not valid for pod web",
		"previous=true":                 `400 previous terminated container "main" in pod "web" not found`,
		"tailLines=-1":                  "400 invalid query parameter tailLines: must not be negative",
		"limitBytes=0":                  "400 invalid query parameter limitBytes: must be greater than or equal to 1",
		"sinceSeconds=1&sinceTime=x":    "400 at most one of `sinceTime` or `sinceSeconds` may be specified",
		"tailLines=1&stream=Stdout":     "400 `tailLines` and specific `stream` are mutually exclusive for now",
		"sinceTime=yesterday":           `400 invalid query parameter sinceTime: parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"`,
		"stream=Stdmeh":                 `400 stream: Unsupported value: "Stdmeh": supported values: All, Stdout, Stderr`,
		"container=main&limitBytes=1e9": `400 invalid query parameter limitBytes: strconv.ParseInt: parsing "1e9": invalid syntax`,
	} {
		if got := c.status("GET", path+query, ""); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	waiting := webPod(v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "ImagePullBackOff"}})
	c.View.Apply(view.Change{Key: webKey, Object: waiting})
	if got, want := c.status("GET", path, ""), `400 container "main" in pod "web" is waiting to start: ImagePullBackOff`; got != want {
		t.Errorf("waiting: got %q, want %q", got, want)
	}
}

func TestPreviousLogs(t *testing.T) {
	c, dir := logs(t)
	write(t, dir+"/0.log", "2026-11-20T08:00:00Z stdout F first\n")
	write(t, dir+"/1.log", "2026-11-20T09:00:00Z stdout F second\n")
	pod := webPod(running)
	pod.Status.ContainerStatuses[0].LastTerminationState = ended
	c.View.Apply(view.Change{Key: webKey, Object: pod})
	path := "/api/v1/namespaces/default/pods/web/log"
	if got := c.get(path + "?previous=true"); got != "first\n" {
		t.Errorf("previous of a running one: got %q", got)
	}
	pod = pod.DeepCopy()
	pod.Status.ContainerStatuses[0].State = v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	c.View.Apply(view.Change{Key: webKey, Object: pod})
	if got, prev := c.get(path), c.get(path+"?previous=true"); got != "second\n" || prev != "second\n" {
		t.Errorf("in back-off: got %q, previous %q", got, prev)
	}
}

// A follower must see each line once, whatever the rotator and conmon do
// between its reads: rename, go on writing to the renamed file, make a new one,
// compress old ones.
func TestFollowingOverRotationsLosesAndDoublesNothing(t *testing.T) {
	c, dir := logs(t)
	live := dir + "/0.log"
	n := 0
	var held *os.File
	reopen := func() {
		t.Helper()
		var err error
		if held, err = os.OpenFile(live, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	emit := func(count int) {
		t.Helper()
		for range count {
			// In two writes, so that readers see halves of lines.
			fmt.Fprintf(held, "2026-11-21T08:00:00Z stdout F li")
			fmt.Fprintf(held, "ne %d\n", n)
			n++
		}
	}
	reopen()
	emit(10)
	resp := c.do("GET", "/api/v1/namespaces/default/pods/web/log?follow=true", "", nil)
	defer resp.Body.Close()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			lines <- s.Text()
		}
	}()
	next, late := 0, time.After(60*time.Second)
	expect := func(until int) {
		t.Helper()
		for next < until {
			select {
			case got, ok := <-lines:
				if want := fmt.Sprintf("line %d", next); !ok || got != want {
					t.Fatalf("got %q (%v), want %q", got, ok, want)
				}
				next++
			case <-late:
				t.Fatalf("stuck before line %d", next)
			}
		}
	}
	expect(10)
	for round := range 30 {
		rotated := fmt.Sprintf("%s.20261121-08%04d", live, round)
		emit(3)
		if err := os.Rename(live, rotated); err != nil {
			t.Fatal(err)
		}
		emit(2) // to the renamed file
		if round%3 == 0 {
			expect(n) // the reader has caught up with the renamed file
			emit(1)
		}
		reopen()
		if round%2 == 0 {
			emit(2)
		}
		if round%5 == 0 {
			b, err := os.ReadFile(rotated)
			if err != nil {
				t.Fatal(err)
			}
			zip(t, rotated+".gz.tmp", string(b))
			if err := os.Rename(rotated+".gz.tmp", rotated+".gz"); err != nil {
				t.Fatal(err)
			}
			os.Remove(rotated)
		}
		if round%4 == 0 {
			expect(n)
		}
	}
	emit(5)
	c.View.Apply(view.Change{Key: webKey, Object: webPod(ended)})
	expect(n)
	select {
	case got, ok := <-lines:
		if ok {
			t.Errorf("after the last line: %q", got)
		}
	case <-late:
		t.Error("the stream does not end with the container")
	}
}

func TestFollowersEndWithTheirPod(t *testing.T) {
	c, dir := logs(t)
	write(t, dir+"/0.log", "2026-11-20T08:00:00Z stdout F x\n")
	resp := c.do("GET", "/api/v1/namespaces/default/pods/web/log?follow=true&tailLines=1", "", nil)
	defer resp.Body.Close()
	c.View.Apply(view.Change{Key: webKey})
	b, err := io.ReadAll(resp.Body)
	if string(b) != "x\n" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestALogThatIsNoFileIsRefused(t *testing.T) {
	c, dir := logs(t)
	if err := os.Symlink("/etc/passwd", dir+"/0.log"); err != nil {
		t.Fatal(err)
	}
	resp := c.do("GET", "/api/v1/namespaces/default/pods/web/log", "", http.Header{})
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); strings.Contains(string(b), "root:") {
		t.Errorf("followed a link out of the log directory: %q", b)
	}
}
