package api_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/yaml"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

var update = flag.Bool("update", false, "rewrite the outputs of golden files")

var asTable = http.Header{"Accept": {"application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}}

// TestTables compares the rows of each story in testdata/tables with what is
// written there: the path, then objects, then columns and cells.
func TestTables(t *testing.T) {
	files, err := filepath.Glob("testdata/tables/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c := newClient(t)
			for _, doc := range strings.Split(string(a.Files[1].Data), "\n---\n") {
				c.View.Apply(objectOf(t, doc))
			}
			table, _ := as[metav1.Table](c, "GET", strings.TrimSpace(string(a.Files[0].Data)), "", asTable)
			got := tableText(table)
			if *update {
				a.Files[2].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(a.Files[2].Data); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func objectOf(t *testing.T, text string) view.Change {
	t.Helper()
	codec := serializer.NewCodecFactory(manifests.Scheme).UniversalDeserializer()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	o, _, err := codec.Decode(b, nil, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	key, err := manifests.KeyOf(o)
	if err != nil {
		t.Fatal(err)
	}
	return view.Change{Key: key, Object: o.(view.Object)}
}

// tableText is a table with a line per row; columns of -o wide begin with "*".
func tableText(table metav1.Table) string {
	var b strings.Builder
	for i, c := range table.ColumnDefinitions {
		if i > 0 {
			b.WriteString(" | ")
		}
		b.WriteString(strings.Repeat("*", int(c.Priority)) + c.Name)
	}
	b.WriteString("\n")
	for _, row := range table.Rows {
		var cells []string
		for _, c := range row.Cells {
			cells = append(cells, fmt.Sprint(c))
		}
		b.WriteString(strings.Join(cells, " | ") + "\n")
	}
	return b.String()
}

// Every kind has as many cells as columns, for an object with nothing in it.
func TestEmptyObjectsOfEveryKindHaveARow(t *testing.T) {
	c := newClient(t)
	var groups metav1.APIGroupList
	json.Unmarshal([]byte(c.get("/apis")), &groups)
	paths := []string{"/api/v1"}
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			paths = append(paths, "/apis/"+v.GroupVersion)
		}
	}
	kinds := 0
	for _, path := range paths {
		list, _ := as[metav1.APIResourceList](c, "GET", path, "", nil)
		for _, r := range list.APIResources {
			if strings.Contains(r.Name, "/") {
				continue
			}
			kinds++
			c.View.Apply(objectOf(t, fmt.Sprintf(`{"apiVersion": %q, "kind": %q, "metadata": {"name": "x"}}`, list.GroupVersion, r.Kind)))
			table, _ := as[metav1.Table](c, "GET", path+"/"+r.Name, "", asTable)
			if len(table.Rows) == 0 || len(table.Rows[0].Cells) != len(table.ColumnDefinitions) {
				t.Errorf("%s: %d columns, rows %v", r.Name, len(table.ColumnDefinitions), table.Rows)
			}
		}
	}
	if kinds < 40 {
		t.Errorf("only %d kinds are served", kinds)
	}
}
