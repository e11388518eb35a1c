package daemon

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestDocsListEveryLogKeyAndEventReason: people alert on these; a new one is
// public the day it ships.
func TestDocsListEveryLogKeyAndEventReason(t *testing.T) {
	doc, err := os.ReadFile("../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	keys, reasons := make(map[string]string), make(map[string]string)
	for _, file := range goFiles(t) {
		if strings.HasSuffix(file, "_test.go") || !strings.HasPrefix(file, "daemon/") && !strings.HasPrefix(file, "proxy/") &&
			!strings.HasPrefix(file, "dnsd/") && !strings.HasPrefix(file, "storage/") && !strings.HasPrefix(file, "manifests/") {
			continue
		}
		collect(t, file, keys, reasons)
	}
	if len(keys) < 10 || len(reasons) < 10 {
		t.Fatalf("found only %d log keys and %d reasons: the search is broken", len(keys), len(reasons))
	}
	for _, what := range []map[string]string{keys, reasons} {
		for _, name := range slices.Sorted(maps.Keys(what)) {
			if !strings.Contains(string(doc), "`"+name+"`") {
				t.Errorf("docs/events.md does not list %q, used in %s", name, what[name])
			}
		}
	}
}

// collect finds the keys of slog calls and the reasons of events in a file.
func collect(t *testing.T, file string, keys, reasons map[string]string) {
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", file), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constants := make(map[string]string)
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == len(spec.Names) {
			for i, name := range spec.Names {
				if text, ok := literal(spec.Values[i], nil); ok {
					constants[name.Name] = text
				}
			}
		}
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch sel.Sel.Name {
		case "Normal", "Warning":
			if len(call.Args) >= 3 {
				if reason, ok := literal(call.Args[1], constants); ok {
					reasons[reason] = file
				}
			}
		case "event": // daemon/workload's: about, type, reason, message
			if len(call.Args) == 4 {
				if reason, ok := literal(call.Args[2], constants); ok {
					reasons[reason] = file
				}
			}
		case "Info", "Warn", "Error", "Debug":
			for i := 1; i+1 < len(call.Args); i += 2 {
				if key, ok := literal(call.Args[i], constants); ok {
					keys[key] = file
				}
			}
		case "DebugContext", "InfoContext", "WarnContext", "ErrorContext":
			for i := 2; i+1 < len(call.Args); i += 2 {
				if key, ok := literal(call.Args[i], constants); ok {
					keys[key] = file
				}
			}
		}
		return true
	})
}

func literal(e ast.Expr, constants map[string]string) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, err := strconv.Unquote(e.Value)
			return s, err == nil
		}
	case *ast.Ident:
		s, ok := constants[e.Name]
		return s, ok
	}
	return "", false
}
