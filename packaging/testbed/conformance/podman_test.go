package conformance

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// TestPodmanTableIsTrue holds docs/podman.md to what Podman says of `podman kube play` (testdata/podman/kube-play.tsv:
// kind, field, support) and what docs/pods.md says of the same fields, whose tests TestEveryFieldHasARow checks. Fields of
// kinds that docs/pods.md does not have are in testdata/podman/other-kinds.tsv: kind, field, state, test.
func TestPodmanTableIsTrue(t *testing.T) {
	told, err := stories("fields")
	if err != nil {
		t.Fatal(err)
	}
	rows, others := readRows(t), make(map[string]row)
	for _, line := range readTable(t, "testdata/podman/other-kinds.tsv", 4) {
		others[line[0]+"."+line[1]] = row{line[2], line[3]}
		if line[2] == "works" && !exists(t, strings.Trim(line[3], "`"), func(story string) bool { return told[story] != nil }) {
			t.Errorf("%s.%s: there is no test %s", line[0], line[1], line[3])
		}
	}
	var want []string
	for _, line := range readTable(t, "testdata/podman/kube-play.tsv", 3) {
		kind, field := line[0], line[1]
		ours, known := others[kind+"."+field]
		switch kind {
		case "Pod":
			ours, known = rowOf(rows, reflect.TypeFor[v1.PodSpec](), field)
		case "Container":
			ours, known = rowOf(rows, reflect.TypeFor[v1.Container](), field)
		}
		if !known {
			t.Errorf("nothing is said of %s %s", kind, field)
		}
		want = append(want, fmt.Sprintf("| %s | `%s` | %s | %s | %s |", kind, field, line[2], ours.state, ours.test))
	}
	holdTable(t, "docs/podman.md", "|---|---|---|---|---|", want)
}

// readTable reads lines of so many cells.
func readTable(t *testing.T, file string, cells int) [][]string {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lines [][]string
	for line := range strings.Lines(string(text)) {
		line := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(line) != cells {
			t.Fatalf("%s: %d cells in %q, want %d", file, len(line), line, cells)
		}
		lines = append(lines, line)
	}
	return lines
}

// rowOf is what docs/pods.md says of a path, as exactly as its tables go.
func rowOf(rows map[string]map[string]row, typ reflect.Type, path string) (found row, ok bool) {
	for name := range strings.SplitSeq(path, ".") {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || rows[typ.Name()] == nil {
			return found, ok
		}
		index, is := apiFields(typ)[name]
		if !is {
			return row{}, false
		}
		found, ok = rows[typ.Name()][name], true
		typ = typ.FieldByIndex(index).Type
	}
	return found, ok
}
