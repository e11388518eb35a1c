package cpuset

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite the expected outputs in testdata")

// TestStories runs each testdata/*.txtar: a host's /sys, one file a line, and a
// script of pods that come and go.
//
//	topology                       show what was read
//	policy none
//	policy static [reserved=SET] [full] [strict]
//	pod NAME [init:|sidecar:]CONTAINER=CPUS...   it comes, or is resized
//	gone NAME
//
// The expected output is, after each step, what everybody holds and shares.
func TestStories(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	if len(files) == 0 {
		t.Fatal("no stories")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, text(archive, "sys"), text(archive, "script"))
			if *update {
				archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "output" })
				archive.Files = append(archive.Files, txtar.File{Name: "output", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := text(archive, "output"); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func text(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// tree makes a file system of lines "PATH CONTENT".
func tree(t *testing.T, lines string) fstest.MapFS {
	t.Helper()
	sys := make(fstest.MapFS)
	for line := range strings.Lines(lines) {
		path, content, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			t.Fatalf("bad line %q", line)
		}
		sys["devices/system/"+path] = &fstest.MapFile{Data: []byte(content + "\n")}
	}
	return sys
}

func tell(t *testing.T, sys, script string) string {
	topology, err := ReadTopology(tree(t, sys))
	if err != nil {
		t.Fatal(err)
	}
	node, held, needs := Node{Topology: topology}, Held{}, map[string][]Need{}
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		words := strings.Fields(line)
		fmt.Fprintf(&out, "> %s\n", line)
		switch words[0] {
		case "topology":
			fmt.Fprint(&out, topology)
			continue
		case "policy":
			next, err := NewNode(topology, policy(t, words[1:]))
			if err != nil {
				fmt.Fprintf(&out, "error: %v\n", err)
				continue
			}
			node, held = next, next.Replan(held, needs)
		case "pod":
			name := words[1]
			needs[name] = wanted(t, words[2:])
			holding, err := node.Place(held, name, needs[name])
			if refusal, ok := err.(*Refusal); ok {
				fmt.Fprintf(&out, "refused: %s: %s (never: %v)\n", refusal.Reason, refusal.Message, refusal.Never)
				continue
			}
			held[name] = holding
		case "gone":
			delete(held, words[1])
			delete(needs, words[1])
		default:
			t.Fatalf("bad step %q", line)
		}
		fmt.Fprintf(&out, "%s", held)
		fmt.Fprintf(&out, "shared %s\n", node.Shared(held))
	}
	return out.String()
}

func policy(t *testing.T, words []string) Policy {
	p := Policy{Static: words[0] == "static"}
	for _, w := range words[1:] {
		switch key, value, _ := strings.Cut(w, "="); key {
		case "reserved":
			var err error
			if p.Reserved, err = Parse(value); err != nil {
				t.Fatal(err)
			}
		case "full":
			p.FullCoresOnly = true
		case "strict":
			p.Strict = true
		default:
			t.Fatalf("bad policy %q", w)
		}
	}
	return p
}

func wanted(t *testing.T, words []string) []Need {
	var needs []Need
	for _, w := range words {
		need := Need{Kind: App}
		name, n, _ := strings.Cut(w, "=")
		if rest, ok := strings.CutPrefix(name, "init:"); ok {
			name, need.Kind = rest, Init
		}
		if rest, ok := strings.CutPrefix(name, "sidecar:"); ok {
			name, need.Kind = rest, Sidecar
		}
		cpus, err := strconv.Atoi(n)
		if err != nil {
			t.Fatal(err)
		}
		need.Container, need.CPUs = name, cpus
		needs = append(needs, need)
	}
	return needs
}
