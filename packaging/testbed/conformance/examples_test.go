package conformance

import (
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// TestExamples runs the examples of Kubernetes' documentation that need one host, as testdata/examples has them: to what
// the page says comes out of it, or to what docs/conformance.md says instead.
func TestExamples(t *testing.T) {
	all, err := stories("examples")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no stories")
	}
	onHost(t)
	for name, archive := range all {
		if !has(archive, "want") && !has(archive, "host") {
			continue // only TestExamplesAreValid
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tell(t, name, archive)
		})
	}
}

// TestExamplesAreValid has `shoal validate` check all examples on the host, whether their images are there or not.
func TestExamplesAreValid(t *testing.T) {
	all, err := stories("examples")
	if err != nil {
		t.Fatal(err)
	}
	h, _ := onHost(t)
	dir := t.TempDir()
	for name, archive := range all {
		for _, section := range archive.Files {
			if section.Name != "pods.yaml" || len(section.Data) == 0 {
				continue
			}
			// Each on its own: many are called nginx.
			file := filepath.Join(dir, strings.ReplaceAll(name, "/", "-")+".yaml")
			if err := os.WriteFile(file, section.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := h.CopyTo(t.Context(), dir, "/root/examples"); err != nil {
		t.Fatal(err)
	}
	out, err := h.Shell(t.Context(), `cd /root/examples; for f in *.yaml; do shoal validate $f > /tmp/said 2>&1 || cat /tmp/said; done; echo void: {} > /tmp/bad.yaml; shoal validate /tmp/bad.yaml > /dev/null 2>&1 || echo refused`)
	if err != nil || out != "refused" {
		t.Errorf("got %q, %v; want only the bad one refused", out, err)
	}
}

func has(archive *txtar.Archive, section string) bool { return text(archive, section) != "" }

func text(archive *txtar.Archive, section string) string {
	for _, f := range archive.Files {
		if f.Name == section {
			return strings.TrimSpace(string(f.Data))
		}
	}
	return ""
}

// TestExamplesAreListed holds docs/conformance.md and the examples together: each has the row that its story makes.
func TestExamplesAreListed(t *testing.T) {
	all, err := stories("examples")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(repository, "docs/conformance.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		want = append(want, exampleRow(name, all[name]))
	}
	var got []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("docs/conformance.md lacks\n%s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("docs/conformance.md has what no example says\n%s", line)
		}
	}
}

// exampleRow is an example's row in docs/conformance.md.
func exampleRow(name string, archive *txtar.Archive) string {
	state := "runs"
	switch why := text(archive, "why"); {
	case why == "":
	case has(archive, "want") || has(archive, "host"):
		state = "runs in part"
	default:
		state = "validates only"
	}
	remark := strings.Join(strings.Fields(string(archive.Comment)+" "+text(archive, "why")), " ")
	return "| `" + path.Clean(name) + "` | " + state + " | " + remark + " |"
}
