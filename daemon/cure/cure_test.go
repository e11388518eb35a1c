package cure

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the expected parts of golden files")

// TestCures holds testdata/cures.txtar: what is said of the containers of one pod ("c: said", "said" of the pod itself,
// "c> said" for what the program of c wrote), and below each its cure. Each rule has its line.
func TestCures(t *testing.T) {
	path := "testdata/cures.txtar"
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pod := parse[v1.Pod](t, archive, "pod.yaml")
	var got strings.Builder
	used := map[string]bool{}
	for line := range strings.Lines(section(archive, "cures")) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "\t") {
			continue
		}
		cure, pattern := cureOfLine(&pod, line)
		used[pattern] = true
		fmt.Fprintf(&got, "%s\n\t%s\n", line, cure)
	}
	want := &archive.Files[slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "cures" })].Data
	for _, r := range slices.Concat(rules, outputs) {
		if !used[r.said.String()] {
			t.Errorf("no line shows rule %s", r.said)
		}
	}
	hold(t, path, archive, want, got.String())
}

// cureOfLine is the cure of a line of cures.txtar and the pattern of the first rule that it matches.
func cureOfLine(p *v1.Pod, line string) (cure, pattern string) {
	list, container, said := rules, "", line
	for _, c := range p.Spec.Containers {
		if rest, ok := strings.CutPrefix(line, c.Name+": "); ok {
			container, said = c.Name, rest
		}
		if rest, ok := strings.CutPrefix(line, c.Name+"> "); ok {
			list, container, said = outputs, c.Name, strings.ReplaceAll(rest, `\r`, "\r")
		}
	}
	for _, r := range list {
		if r.said.MatchString(said) {
			return first(list, find(p, container), said), r.said.String()
		}
	}
	return "", ""
}

func TestWhy(t *testing.T) {
	paths, err := filepath.Glob("testdata/why/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			pod := parse[v1.Pod](t, archive, "pod.yaml")
			events := parse[[]v1.Event](t, archive, "events.yaml")
			output := map[string][]string{}
			for _, f := range archive.Files {
				if name, ok := strings.CutPrefix(f.Name, "output/"); ok {
					text := strings.NewReplacer(`\r`, "\r", `\e`, "\x1b").Replace(string(f.Data))
					output[name] = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
				}
			}
			i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "why" })
			if i < 0 {
				t.Fatal("no section why")
			}
			hold(t, path, archive, &archive.Files[i].Data, Why(&pod, events, output))
		})
	}
}

func TestWrapKeepsWhatCallersAskFor(t *testing.T) {
	p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", ImagePullPolicy: v1.PullNever}}}}
	err := Wrap(p, "c", fmt.Errorf("x is not present with pull policy of Never: %w", fs.ErrNotExist))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "(spec.containers[0].imagePullPolicy: ") {
		t.Errorf("got %v", err)
	}
	if again := Wrap(p, "c", fs.ErrClosed); again != fs.ErrClosed {
		t.Errorf("an error without a cure became %v", again)
	}
	if Wrap(p, "c", nil) != nil {
		t.Error("nil became an error")
	}
}

// TestACureNeverDependsOnAPodsShape tells every known text of pods that lack what it is about.
func TestACureNeverDependsOnAPodsShape(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/cures.txtar")
	if err != nil {
		t.Fatal(err)
	}
	pods := []*v1.Pod{{}, {Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c"}, {Name: "d"}}, Volumes: []v1.Volume{{Name: "v"}}}}}
	for line := range strings.Lines(section(archive, "cures")) {
		_, said, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, p := range pods {
			for _, container := range []string{"", "c", "gone"} {
				For(p, container, said)
				Output(p, container, said)
			}
		}
	}
}

func parse[T any](t *testing.T, archive *txtar.Archive, name string) (object T) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(section(archive, name)), &object); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return object
}

func section(archive *txtar.Archive, name string) string {
	for _, f := range archive.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// hold compares with a golden part of an archive, or rewrites it.
func hold(t *testing.T, path string, archive *txtar.Archive, want *[]byte, got string) {
	t.Helper()
	if *update {
		*want = []byte(got)
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != string(*want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, *want)
	}
}
