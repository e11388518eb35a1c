package workload

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/manifests"
)

var update = flag.Bool("update", false, "rewrite the expected outputs in testdata")

// TestStories runs each testdata/*.txtar: a script of what people do and what
// becomes of pods, after each line of which controllers decide until they are at
// rest. The output is every event, and the state where the script shows it.
//
//	apply SECTION               declare the objects of a section
//	file KIND NAME              a file declares this object, no client
//	replace SECTION OLD NEW     declare them with every OLD changed to NEW
//	delete KIND NAME            the declaration, or the decided object, goes away
//	ready N|all [PREFIX]        so many pods of that prefix that are not ready become it
//	unready N|all [PREFIX]      or stop to be
//	fail|succeed N|all [PREFIX] or end
//	label PREFIX KEY=VALUE      the pods of that prefix get a label
//	kill N|all [PREFIX]         a person deletes so many pods
//	forget-unsaved              the daemon was killed before it saved replica sets
//	gone                        nothing is left of those that are being deleted
//	lose NODE, find NODE        nobody hears of a node, and its pods are to go elsewhere; it is back
//	refuse TEXT, admit          admission refuses pods from now on, or does not
//	after DURATION              time passes
//	show                        the state
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
			sections := make(map[string]string)
			for _, f := range archive.Files {
				sections[f.Name] = string(f.Data)
			}
			s := newSim(t)
			for line := range strings.Lines(sections["script"]) {
				if line = strings.TrimSpace(line); line != "" {
					fmt.Fprintf(&s.out, "> %s\n", line)
					s.step(sections, strings.Fields(line))
				}
			}
			got := s.out.String()
			if *update {
				setSection(archive, "output", got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if want := sections["output"]; got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func setSection(a *txtar.Archive, name, data string) {
	for i := range a.Files {
		if a.Files[i].Name == name {
			a.Files[i].Data = []byte(data)
			return
		}
	}
	a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(data)})
}

func (s *sim) step(sections map[string]string, f []string) {
	key := func() manifests.Key {
		key := manifests.Key{Group: "apps", Kind: f[1], Namespace: "default", Name: f[2]}
		if f[1] == "Pod" || f[1] == "Node" {
			key.Group = ""
		}
		if f[1] == "Node" {
			key.Namespace = ""
		}
		return key
	}
	switch f[0] {
	case "apply":
		s.apply(sections[f[1]])
	case "file":
		s.filed[key()] = true
	case "replace":
		s.apply(strings.ReplaceAll(sections[f[1]], f[2], f[3]))
	case "delete":
		s.drop(key())
	case "ready":
		s.some(f, func(p *v1.Pod) bool { return p.DeletionTimestamp == nil && !ready(p) }, func(p *v1.Pod) { s.setReady(p, true) })
	case "unready":
		s.some(f, ready, func(p *v1.Pod) { s.setReady(p, false) })
	case "fail":
		s.some(f, active, func(p *v1.Pod) { s.setPhase(p, v1.PodFailed) })
	case "succeed":
		s.some(f, active, func(p *v1.Pod) { s.setPhase(p, v1.PodSucceeded) })
	case "kill":
		s.some(f, active, func(p *v1.Pod) { s.put(deleted(p, s.now)) })
	case "label":
		for _, p := range s.pods() {
			if strings.HasPrefix(p.Name, f[1]) {
				name, value, _ := strings.Cut(f[2], "=")
				p = p.DeepCopy()
				p.Labels = with(p.Labels, name, value)
				s.put(p)
				break
			}
		}
	case "forget-unsaved": // the daemon was killed, and its record lacks the replica sets
		for k := range s.objects {
			if k.Kind == "ReplicaSet" {
				delete(s.objects, k)
			}
		}
		for k := range s.objects {
			s.dirty[k] = true
		}
	case "gone":
		s.end()
	case "lose":
		s.lose(f[1], true)
	case "find":
		s.lose(f[1], false)
	case "refuse":
		s.refused = strings.Join(f[1:], " ")
	case "admit":
		s.refused = ""
	case "after":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(d)
	case "show":
		s.out.WriteString(s.state())
	default:
		s.t.Fatalf("unknown step %q", f[0])
	}
	s.reconcile()
}

func ready(p *v1.Pod) bool {
	return len(p.Status.Conditions) > 0 && p.Status.Conditions[0].Status == v1.ConditionTrue
}

// some does something to the first pods that a step names.
func (s *sim) some(f []string, is func(*v1.Pod) bool, do func(*v1.Pod)) {
	n := 0
	if f[1] == "all" {
		n = len(s.objects)
	} else if _, err := fmt.Sscan(f[1], &n); err != nil {
		s.t.Fatal(err)
	}
	for _, p := range s.pods() {
		if n > 0 && is(p) && (len(f) < 3 || strings.HasPrefix(p.Name, f[2])) {
			do(p)
			n--
		}
	}
}
