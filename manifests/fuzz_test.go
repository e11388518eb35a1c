package manifests

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// seeds are the inputs of all stories and examples.
func seeds(f *testing.F) {
	stories, _ := filepath.Glob("testdata/decode/*.txtar")
	for _, path := range stories {
		a, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range a.Files {
			f.Add(part.Data)
		}
	}
	examples, _ := filepath.Glob("testdata/kubernetes-docs/*")
	for _, path := range examples {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// yamlBreak is what the parser, which reads YAML 1.1 as well, takes for the end of a line.
var yamlBreak = regexp.MustCompile("\r\n|[\n\r\u0085\u2028\u2029]")

// FuzzDecode: whatever the bytes, Decode neither panics nor takes long, places
// every problem inside the file, and what it accepts it accepts again in the
// form in which it is stored.
func FuzzDecode(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		objects, problems := Decode("f", data)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("took %v for %d bytes", took, len(data))
		}
		lines := len(yamlBreak.FindAllIndex(data, -1)) + 1
		for _, p := range problems {
			if p.Pos.Line < 0 || p.Pos.Line > lines || p.Message == "" {
				t.Errorf("problem outside of the %d lines: %+v", lines, p)
			}
			if p.Pos.Line > 0 && p.Pos.Column < 1 {
				t.Errorf("no column: %+v", p)
			}
		}
		for _, o := range objects {
			again, problems := Decode("declared", o.Declared)
			if len(problems) > 0 || len(again) != 1 || again[0].Key != o.Key || !bytes.Equal(again[0].Declared, o.Declared) {
				t.Errorf("%s is not accepted again: %v\n%s", o.Key, problems, o.Declared)
			}
			if _, err := FromDeclared(o.Declared); err != nil {
				t.Errorf("FromDeclared: %v", err)
			}
			if key, err := ParseKey(o.Key.String()); err != nil || key != o.Key {
				t.Errorf("key %q does not come back: %v", o.Key, err)
			}
		}
	})
}

// FuzzFromDeclared: bytes from a peer or from disk do no harm.
func FuzzFromDeclared(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		obj, err := FromDeclared(data)
		if err != nil {
			return
		}
		if _, err := KeyOf(obj); err != nil {
			t.Error(err)
		}
		Validate(obj)
	})
}
