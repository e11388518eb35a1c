package scope

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the outputs in testdata")

// Each file is one rule: node.yaml and pods go in, what the pods, their
// containers and the slices get comes out. The machine has 8 GiB of memory.
func TestResourcesGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var node NodeLimits
	var pods []*v1.Pod
	var want *txtar.File
	for i, f := range archive.Files {
		switch f.Name {
		case "node.yaml":
			err = yaml.UnmarshalStrict(f.Data, &node)
		case "want":
			want = &archive.Files[i]
		default:
			pod := &v1.Pod{}
			err = yaml.UnmarshalStrict(f.Data, pod)
			pods = append(pods, pod)
		}
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	got := describe(t, pods, node)
	if *update {
		want.Data = []byte(got)
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got != string(want.Data) {
		t.Errorf("got\n%s\nwant\n%s", got, want.Data)
	}
}

// exclusive is whether a story's pod is one of those that run only once.
func exclusive(p *v1.Pod) bool { return p.Annotations["shoal.io/exclusive"] != "" }

func describe(t *testing.T, pods []*v1.Pod, node NodeLimits) string {
	var b strings.Builder
	for _, pod := range pods {
		fmt.Fprintf(&b, "pod %s %s: %v\n", pod.Name, QOS(pod), PodResources(pod, node))
		for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range list {
				spec, err := json.Marshal(ContainerResources(pod, &list[i], node))
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "  %s oom=%d %s\n", list[i].Name, OOMScoreAdj(pod, &list[i], 8<<30), spec)
			}
		}
	}
	names := []string{RootSlice, BurstableSlice, BestEffortSlice}
	if slices.ContainsFunc(pods, exclusive) {
		names = append(names, ExclusiveSlice, ExclusiveBurstableSlice, ExclusiveBestEffortSlice)
	}
	for _, name := range names {
		fmt.Fprintf(&b, "%s: %v\n", name, SliceResources(pods, exclusive, node)[name])
	}
	return b.String()
}
