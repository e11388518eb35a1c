package conformance

import (
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"
)

// TestNode runs our versions of Kubernetes' NodeConformance tests, written after their descriptions. A story below
// testdata/node begins with the names of the tests that it stands for, one a line.
func TestNode(t *testing.T) {
	all, err := stories("node")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no stories")
	}
	onHost(t)
	for name, archive := range all {
		if !has(archive, "want") && !has(archive, "host") {
			continue // shown by another test, or not at all: the table says why
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tell(t, name, archive)
		})
	}
}

// TestNodeTableIsTrue holds docs/conformance.md, the stories and Kubernetes' own list together: each of its
// NodeConformance tests has one row, which is what the story that names it makes.
func TestNodeTableIsTrue(t *testing.T) {
	all, err := stories("node")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, test := range upstreamTests(all[name]) {
			if rows[test] != "" {
				t.Errorf("%s: %s has a story already", name, test)
			}
			rows[test] = nodeRow(t, name, test, all[name])
		}
	}
	var want []string
	for _, test := range nodeConformance(t) {
		if rows[test] == "" {
			t.Errorf("no story below testdata/node names %s", test)
		}
		want = append(want, rows[test])
		delete(rows, test)
	}
	for test := range rows {
		t.Errorf("Kubernetes has no NodeConformance test %s", test)
	}
	holdTable(t, "docs/conformance.md", "| test | state | shown by, or why not |\n|---|---|---|", want)
}

var update = flag.Bool("update", false, "write the tables of docs that tests make")

// holdTable holds the last table of a page, which begins below a line, to its rows.
func holdTable(t *testing.T, page, header string, rows []string) {
	file := filepath.Join(repository, page)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, table, ok := strings.Cut(string(text), header+"\n")
	want := strings.Join(rows, "\n") + "\n"
	switch {
	case !ok:
		t.Errorf("%s has no line %s", page, header)
	case *update:
		if err := os.WriteFile(file, []byte(before+header+"\n"+want), 0o644); err != nil {
			t.Fatal(err)
		}
	case table != want:
		t.Errorf("%s is not what the tests say: `go test ./packaging/testbed/conformance -run Table -update` writes it", page)
	}
}

// nodeConformance are the names of the NodeConformance tests of the Kubernetes version in go.mod, in its order.
func nodeConformance(t *testing.T) []string {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "test/conformance/testdata/conformance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var tests []struct {
		Name string `json:"codename"`
	}
	if err := yaml.Unmarshal(data, &tests); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, test := range tests {
		if strings.Contains(test.Name, "[NodeConformance]") {
			names = append(names, test.Name)
		}
	}
	if len(names) == 0 {
		t.Fatal("Kubernetes' list is empty")
	}
	return names
}

// upstreamTests are the tests that a story stands for.
func upstreamTests(archive *txtar.Archive) []string {
	var names []string
	for line := range strings.Lines(string(archive.Comment)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "[sig-") {
			names = append(names, line)
		}
	}
	return names
}

// nodeRow is a test's row in docs/conformance.md.
func nodeRow(t *testing.T, name, test string, archive *txtar.Archive) string {
	state, shown := "pass", "`TestNode/"+name+"`"
	why := strings.Join(strings.Fields(text(archive, "why")), " ")
	switch elsewhere := text(archive, "shown"); {
	case elsewhere != "":
		shown = "`" + elsewhere + "`"
		if !exists(t, elsewhere, func(string) bool { return false }) {
			t.Errorf("%s: there is no test %s", name, elsewhere)
		}
	case has(archive, "want"), has(archive, "host"):
	default:
		state, shown = "no", ""
		if why == "" {
			t.Errorf("%s: neither facts nor a reason", name)
		}
	}
	return "| " + test + " | " + state + " | " + strings.TrimSpace(shown+" "+why) + " |"
}
