package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/api/apitest"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// TestMain lets the test's own binary be a server of 50 pods, so that its
// memory can be measured.
func TestMain(m *testing.M) {
	if socket := os.Getenv("SHOAL_TEST_SERVE"); socket != "" {
		if err := serve50(socket); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serve50(socket string) error {
	n := apitest.NewNode(filepath.Dir(socket), time.Now, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	for i := range 50 {
		pod := webPod(running).DeepCopy()
		pod.Name = fmt.Sprint("pod-", i)
		for range 10 { // about what a defaulted pod of a real file has
			pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, v1.EnvVar{Name: "NAME", Value: "some value of some length"})
			pod.Status.Conditions = append(pod.Status.Conditions, v1.PodCondition{Type: "X", LastTransitionTime: metav1.Now()})
		}
		n.View.Apply(view.Change{Key: manifests.Key{Kind: "Pod", Namespace: "default", Name: pod.Name}, Object: pod})
	}
	l, err := api.Listen(socket)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return n.API.Serve(ctx, l)
}

// The bound is for the whole daemon with 50 pods: 40 MB RSS, and 25 MB
// of it anonymous after 1,000 calls. The API alone must stay well below.
func TestMemoryAfterAThousandCallsIsBounded(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	server := exec.Command(self)
	server.Env = append(os.Environ(), "SHOAL_TEST_SERVE="+socket)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		server.Process.Signal(syscall.SIGTERM)
		if err := server.Wait(); err != nil {
			t.Error(err)
		}
	}()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	for deadline := time.Now().Add(30 * time.Second); ; {
		if r, err := c.Get("http://shoal/healthz"); err == nil {
			r.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the server does not start")
		}
	}
	t.Logf("idle: %s", memory(t, server.Process.Pid))
	cl := &client{t: t, http: c}
	paths := []string{"/api", "/apis", "/api/v1/pods", "/api/v1/namespaces/default/pods/pod-7", "/openapi/v3/api/v1",
		"/openapi/v2", "/api/v1/events", "/apis/apps/v1/deployments"}
	for i := range 1000 {
		header := http.Header{}
		if i%2 == 0 {
			header = asTable
		}
		r := cl.do("GET", paths[i%len(paths)], "", header)
		if r.StatusCode != 200 {
			t.Fatalf("%s: %d", paths[i%len(paths)], r.StatusCode)
		}
		if _, err := r.Body.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
	}
	after := memory(t, server.Process.Pid)
	t.Logf("after 1,000 calls: %s", after)
	if const25 := 25 << 10; after.anon > const25 {
		t.Errorf("%d kB anonymous, want at most %d", after.anon, const25)
	}
}

type kilobytes struct{ rss, anon int }

func (k kilobytes) String() string { return fmt.Sprintf("RSS %d kB, anonymous %d kB", k.rss, k.anon) }

func memory(t *testing.T, pid int) kilobytes {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	value := func(name string) int {
		m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(b)
		if m == nil {
			t.Skip("no " + name + " in /proc")
		}
		n, _ := strconv.Atoi(string(m[1]))
		return n
	}
	return kilobytes{value("VmRSS"), value("RssAnon")}
}
