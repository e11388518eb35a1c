package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/stats"
)

// full is a usage of which everything is known: each amount has another value.
func full(t testing.TB, n *uint64) stats.Usage {
	var u stats.Usage
	fill(t, reflect.ValueOf(&u).Elem(), n)
	u.IO.Devices = []stats.DeviceIO{{Device: "/dev/vda", ReadBytes: 1, WrittenBytes: 2, Reads: 3, Writes: 4}}
	return u
}

func fill(t testing.TB, v reflect.Value, n *uint64) {
	t.Helper()
	switch {
	case v.Type() == reflect.TypeFor[stats.Amount]():
		*n += 1_000_000_000
		v.Set(reflect.ValueOf(stats.Known(*n)))
	case v.Type() == reflect.TypeFor[stats.Pressure]():
		v.Set(reflect.ValueOf(stats.Pressure{Known: true, Some: stats.Stall{Total: time.Second}, Full: stats.Stall{Total: 2 * time.Second}}))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	}
}

// sources tell everything that can be told, of as many pods.
func sources(t testing.TB, count int) Sources {
	now := time.Unix(1_800_000_000, 0)
	n := uint64(0)
	s := &stats.Sample{Time: now, Node: stats.Node{Time: now, CPUs: 2, Usage: full(t, &n), Pods: full(t, &n), Capacity: stats.Known(8 << 30)}}
	s.Node.Root = stats.FileSystem{Device: "/dev/vda", Capacity: stats.Known(100), Inodes: stats.Known(10), InodesFree: stats.Known(9)}
	disk := stats.Storage{Time: now, Pods: make(map[string]stats.PodStorage)}
	var pods []*v1.Pod
	for i := range count {
		uid := fmt.Sprint("uid-", i)
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("web-", i), Namespace: "default", UID: "uid-0"}}
		p.Spec.Containers = []v1.Container{{Name: "app", Resources: v1.ResourceRequirements{
			Requests: v1.ResourceList{v1.ResourceCPU: quantity.MustParse("100m")},
			Limits:   v1.ResourceList{v1.ResourceCPU: quantity.MustParse("250m"), v1.ResourceMemory: quantity.MustParse("64Mi")},
		}}}
		p.Status.Phase = v1.PodRunning
		pods = append(pods, p)
		s.Pods = append(s.Pods, stats.PodUsage{
			Pod: stats.Pod{UID: uid, Namespace: "default", Name: p.Name, CgroupPath: "/shoal.slice/x.scope"}, Usage: full(t, &n),
			Interfaces: []stats.Interface{{Name: "eth0", RxBytes: 5}},
			Containers: []stats.ContainerUsage{{
				Container: stats.Container{Name: "app", ID: "app-0-" + uid, Image: "nginx", Started: now, Cgroup: "/sys/fs/cgroup/x/app"}, Usage: full(t, &n),
			}},
		})
		disk.Pods[uid] = stats.PodStorage{Containers: map[string]stats.ContainerStorage{"app": {Layer: stats.Disk{Bytes: stats.Known(10)}, Logs: stats.Disk{Bytes: stats.Known(1)}}}}
	}
	return Sources{
		Version:  "test",
		Sample:   func() (*stats.Sample, error) { return s, nil },
		Storage:  func() stats.Storage { return disk },
		Pods:     func() []*v1.Pod { return pods },
		Files:    func(context.Context) (map[string]int, int, error) { return map[string]int{"Active": 2}, 1, nil },
		Events:   func() map[Event]uint64 { return map[Event]uint64{{"Warning", "BackOff"}: 3} },
		Queries:  func() map[Query]uint64 { return map[Query]uint64{{"zone", "NOERROR"}: 4} },
		Requests: func() map[Request]uint64 { return map[Request]uint64{{"GET", 200}: 5} },
		Log:      slog.New(slog.DiscardHandler),
	}
}

func scrape(t testing.TB, m *Metrics, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

func names(page string) map[string]bool {
	found := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(page, -1) {
		found[m[1]] = true
	}
	return found
}

// What people have on dashboards is public the day it ships.
func TestDocsListEveryMetricAndNoOther(t *testing.T) {
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)`").FindAllStringSubmatch(string(doc), -1) {
		documented[m[1]] = true
	}
	m := New(sources(t, 1))
	m.Took("image_pull", time.Second)
	served := names(scrape(t, m, Path))
	for name := range names(scrape(t, m, ResourcePath)) {
		served[name] = true
	}
	if len(served) < 50 {
		t.Fatalf("only %d metrics: %v", len(served), served)
	}
	for name := range served {
		if !documented[name] && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("docs/metrics.md does not list %s", name)
		}
	}
	for name := range documented {
		if !served[name] {
			t.Errorf("docs/metrics.md lists %s, which there is not", name)
		}
	}
}

func TestNamesLabelsAndUnitsAreTheKubelets(t *testing.T) {
	s := sources(t, 1)
	sample, _ := s.Sample()
	c := &sample.Pods[0].Containers[0].Usage
	c.CPU.Total, c.Memory.WorkingSet = stats.Known(2_500_000_000), stats.Known(4096)
	c.CPU.ThrottledTime = stats.Known(500_000_000)
	m := New(s)
	labels := `container="app",id="/shoal.slice/x.scope/app",image="nginx",name="app-0-uid-0",namespace="default",pod="web-0"`
	for path, want := range map[string][]string{
		Path: {
			`container_cpu_usage_seconds_total{container="app",cpu="total",id="/shoal.slice/x.scope/app",image="nginx",name="app-0-uid-0",namespace="default",pod="web-0"} 2.5`,
			`container_memory_working_set_bytes{` + labels + `} 4096`,
			`container_cpu_cfs_throttled_seconds_total{` + labels + `} 0.5`,
			`container_spec_cpu_quota{` + labels + `} 25000`,
			`container_spec_memory_limit_bytes{` + labels + `} 6.7108864e+07`,
			`container_network_receive_bytes_total{container="",id="/shoal.slice/x.scope",image="",interface="eth0",name="",namespace="default",pod="web-0"} 5`,
			`container_fs_usage_bytes{container="app",device="/dev/vda",id="/shoal.slice/x.scope/app",image="nginx",name="app-0-uid-0",namespace="default",pod="web-0"} 11`,
			`machine_cpu_cores 2`, `shoal_pods{phase="Running"} 1`, `shoal_pods{phase="Failed"} 0`,
			`shoal_events_total{reason="BackOff",type="Warning"} 3`, `shoal_manifest_problems 1`,
			`shoal_dns_queries_total{rcode="NOERROR",source="zone"} 4`, `shoal_api_requests_total{code="200",method="GET"} 5`,
		},
		ResourcePath: {
			`container_cpu_usage_seconds_total{container="app",namespace="default",pod="web-0"} 2.5`,
			`container_memory_working_set_bytes{container="app",namespace="default",pod="web-0"} 4096`,
			`container_start_time_seconds{container="app",namespace="default",pod="web-0"} 1.8e+09`,
			`resource_scrape_error 0`,
		},
	} {
		page := scrape(t, m, path)
		for _, line := range want {
			if !strings.Contains(page, "\n"+line+"\n") {
				t.Errorf("%s has no line %s", path, line)
			}
		}
	}
}

func TestWhatIsUnknownIsLeftOut(t *testing.T) {
	s := sources(t, 1)
	sample, _ := s.Sample()
	sample.Pods[0].Containers[0].Usage = stats.Usage{}
	sample.Pods[0].Usage = stats.Usage{}
	if page := scrape(t, New(s), ResourcePath); strings.Contains(page, "working_set_bytes{") || strings.Contains(page, "usage_seconds_total{") {
		t.Errorf("a container of which nothing is known has numbers:\n%s", page)
	}
}

func TestAHostThatCantBeMeasuredIsAnErrorAndTheRestIsThere(t *testing.T) {
	s := sources(t, 1)
	s.Sample = func() (*stats.Sample, error) { return nil, errors.New("no /proc") }
	s.Files = func(context.Context) (map[string]int, int, error) { return nil, 0, context.DeadlineExceeded }
	page := scrape(t, New(s), Path)
	for _, line := range []string{"resource_scrape_error 1", `shoal_pods{phase="Running"} 1`} {
		if !strings.Contains(page, line) {
			t.Errorf("no line %s", line)
		}
	}
}

func TestOnlyThePagesAreServedAndOnlyToRead(t *testing.T) {
	m := New(sources(t, 1))
	for _, test := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/metrics/other", http.StatusNotFound}, {http.MethodGet, "/", http.StatusNotFound},
		{http.MethodPost, Path, http.StatusMethodNotAllowed}, {http.MethodHead, Path, http.StatusOK},
	} {
		w := httptest.NewRecorder()
		m.ServeHTTP(w, httptest.NewRequest(test.method, test.path, bytes.NewReader(nil)))
		if w.Code != test.want {
			t.Errorf("%s %s: %d, want %d", test.method, test.path, w.Code, test.want)
		}
	}
}
