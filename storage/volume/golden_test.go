package volume

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	defaults "k8s.io/kubernetes/pkg/apis/core/v1"
	"sigs.k8s.io/yaml"
)

// testNode is what all goldens run on: 4 cores, 8 GiB, 100 GiB of disk.
var testNode = NodeInfo{
	Allocatable: v1.ResourceList{
		v1.ResourceCPU:              resource.MustParse("4"),
		v1.ResourceMemory:           resource.MustParse("8Gi"),
		v1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
	},
	RecursiveReadOnly: true,
}

// story is one golden file: a pod, the objects it names, and sections compared with what the code says.
type story struct {
	pod     v1.Pod
	objs    objects
	vols    map[string]Mounted
	env     map[string]string
	node    NodeInfo
	archive *txtar.Archive
}

func readStory(t *testing.T, file string) story {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := story{archive: archive, node: testNode, vols: map[string]Mounted{}, env: map[string]string{}}
	for _, f := range archive.Files {
		switch f.Name {
		case "pod.yaml":
			decode(t, f.Data, &s.pod)
			defaults.SetObjectDefaults_Pod(&s.pod)
		case "env":
			for line := range strings.Lines(string(f.Data)) {
				k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
				s.env[k] = v
			}
		case "vols": // NAME PATH [ro]
			for line := range strings.Lines(string(f.Data)) {
				w := strings.Fields(line)
				s.vols[w[0]] = Mounted{Path: w[1], ReadOnly: len(w) > 2}
			}
		case "objects.yaml":
			for doc := range strings.SplitSeq(string(f.Data), "---\n") {
				s.addObject(t, []byte(doc))
			}
		}
	}
	s.node.RecursiveReadOnly = !strings.Contains(string(archive.Comment), "old kernel")
	return s
}

func (s *story) addObject(t *testing.T, doc []byte) {
	t.Helper()
	if bytes.Contains(doc, []byte("kind: Secret")) {
		var secret v1.Secret
		decode(t, doc, &secret)
		s.objs.secrets = append(s.objs.secrets, secret)
		return
	}
	var cm v1.ConfigMap
	decode(t, doc, &cm)
	s.objs.configMaps = append(s.objs.configMaps, cm)
}

func decode(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(data, into); err != nil {
		t.Fatal(err)
	}
}

// section is the wanted text; nil when the story does not have it.
func (s story) section(name string) *txtar.File {
	i := slices.IndexFunc(s.archive.Files, func(f txtar.File) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return &s.archive.Files[i]
}

func (s story) contents() string {
	var b strings.Builder
	for _, vol := range s.pod.Spec.Volumes {
		fmt.Fprintf(&b, "%s\n", vol.Name)
		files, err := Content(&s.pod, vol, s.objs, s.node)
		if err != nil {
			fmt.Fprintf(&b, "  error: %v\n", err)
		}
		for _, f := range files {
			fmt.Fprintf(&b, "  %s %04o %d:%d %q\n", f.Path, f.Mode, f.UID, f.GID, f.Data)
		}
	}
	return b.String()
}

func (s story) mounts() string {
	var b strings.Builder
	for _, c := range s.pod.Spec.Containers {
		fmt.Fprintf(&b, "%s\n", c.Name)
		mounts, err := Mounts(&c, s.vols, s.env, s.node)
		if err != nil {
			fmt.Fprintf(&b, "  error: %v\n", err)
		}
		for _, m := range mounts {
			fmt.Fprintf(&b, "  %s: %s [%s] -> %s ro=%v rro=%v %s\n",
				m.Volume, m.Source, m.SubPath, m.Destination, m.ReadOnly, m.RecursiveReadOnly, m.Propagation)
		}
	}
	return b.String()
}

func (s story) nested() string {
	var b strings.Builder
	for _, vol := range s.pod.Spec.Volumes {
		fmt.Fprintf(&b, "%s %s\n", vol.Name, strings.Join(nestedMountpoints(vol.Name, &s.pod), " "))
	}
	return b.String()
}

// TestStories compares every file of testdata; go test -update rewrites the outputs.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			s := readStory(t, file)
			compared := 0
			for name, output := range map[string]func() string{"contents": s.contents, "mounts": s.mounts, "nested": s.nested} {
				want := s.section(name)
				if want == nil {
					continue
				}
				compared++
				got := output()
				if *update {
					want.Data = []byte(got)
				} else if got != string(want.Data) {
					t.Errorf("%s:\ngot:\n%swant:\n%s", name, got, want.Data)
				}
			}
			if compared == 0 {
				t.Error("nothing to compare")
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(s.archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
