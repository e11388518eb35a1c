package endpoints

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigs "sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the expected outputs in testdata")

// documents decodes all of a file's.
func documents[T any](t *testing.T, data []byte) (list []*T) {
	t.Helper()
	d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		o := new(T)
		err := d.Decode(o)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, o)
	}
}

// TestStories: each file of testdata is a service with pods and nodes, or with an
// Endpoints object, and the slices and the Endpoints object that follow. Of pods
// without a state of their own all are ready.
func TestStories(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("no stories", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files := make(map[string][]byte)
			for _, f := range archive.Files {
				files[f.Name] = f.Data
			}
			s := documents[v1.Service](t, files["service.yaml"])[0]
			s.Namespace, s.UID = "default", types.UID(s.Name)
			nodes := make(map[string]*v1.Node)
			for _, n := range documents[v1.Node](t, files["nodes.yaml"]) {
				nodes[n.Name] = n
			}
			pods := documents[v1.Pod](t, files["pods.yaml"])
			for _, p := range pods {
				p.Namespace, p.UID = "default", types.UID(p.Name)
				if len(p.Status.Conditions) == 0 {
					p.Status.Conditions = []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue}}
				}
			}
			find := func(name string) *v1.Node { return nodes[name] }
			list := Slices(s, pods, find)
			slices.Reverse(pods)
			if again := Slices(s, pods, find); !slices.EqualFunc(list, again, same) {
				t.Error("in another order they come out otherwise")
			}
			var out []any
			for _, e := range documents[v1.Endpoints](t, files["endpoints.yaml"]) {
				e.Namespace, e.UID = "default", types.UID("given")
				list = append(list, Mirror(s, e)...)
			}
			for _, slice := range list {
				out = append(out, slice)
			}
			if Selects(s) {
				out = append(out, Endpoints(s, list))
			}
			var text []string
			for _, o := range out {
				y, err := sigs.Marshal(o)
				if err != nil {
					t.Fatal(err)
				}
				text = append(text, string(y))
			}
			got := strings.Join(text, "---\n")
			if *update {
				archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "output" })
				archive.Files = append(archive.Files, txtar.File{Name: "output", Data: []byte(got)})
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if want := string(files["output"]); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func same(a, b *discovery.EndpointSlice) bool {
	x, errX := sigs.Marshal(a)
	y, errY := sigs.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func TestManyEndpointsAreCutIntoSlices(t *testing.T) {
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Name: "big", Namespace: "default", UID: "big"}}
	s.Spec.Selector = map[string]string{"a": "b"}
	var pods []*v1.Pod
	for i := range 2*maxEndpoints + 1 {
		p := &v1.Pod{}
		p.Name, p.Namespace, p.UID, p.Labels = "p"+strings.Repeat("x", i%200)+string(rune('a'+i%26)), "default", types.UID(rune(i)), s.Spec.Selector
		p.Status.PodIPs = []v1.PodIP{{IP: "10.0.0.1"}}
		pods = append(pods, p)
	}
	names, count := make(map[string]bool), 0
	for _, slice := range Slices(s, pods, func(string) *v1.Node { return nil }) {
		names[slice.Name] = true
		count += len(slice.Endpoints)
		if len(slice.Endpoints) > maxEndpoints {
			t.Errorf("%s has %d", slice.Name, len(slice.Endpoints))
		}
	}
	if len(names) != 3 || count != len(pods) {
		t.Errorf("%d slices with %d endpoints, want 3 with %d", len(names), count, len(pods))
	}
}
