package manifests

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the expected parts of golden files")

// TestDecode runs the stories in testdata/decode. Each file whose name ends in
// .yaml or .json is decoded; the section "said" holds the problems, "declared"
// the objects.
func TestDecode(t *testing.T) {
	paths, err := filepath.Glob("testdata/decode/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			story, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var said, declared bytes.Buffer
			var inputs []txtar.File
			for _, f := range story.Files {
				if ext := filepath.Ext(f.Name); ext != ".yaml" && ext != ".json" {
					continue
				}
				inputs = append(inputs, f)
				objects, problems := Decode(f.Name, f.Data)
				for _, p := range problems {
					fmt.Fprintln(&said, p)
				}
				for _, o := range objects {
					fmt.Fprintf(&declared, "%s %s doc %d\n\t%s\n", o.Pos, o.Key, o.Document, o.Declared)
				}
			}
			outputs := []txtar.File{{Name: "said", Data: said.Bytes()}, {Name: "declared", Data: declared.Bytes()}}
			if *update {
				story.Files = append(inputs, outputs...)
				if err := os.WriteFile(path, txtar.Format(story), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, want := range outputs {
				if got := section(story, want.Name); got != string(want.Data) {
					t.Errorf("section %s\ngot:\n%s\nwant:\n%s", want.Name, want.Data, got)
				}
			}
		})
	}
}

func section(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}
