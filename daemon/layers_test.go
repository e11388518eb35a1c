package daemon

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/shoal-project/shoal/"

// layers is docs/architecture.md's "who may use whom": each package of the
// module and those of the module that it may import. A new package or edge
// fails until it has its line here.
var layers = map[string][]string{
	"manifests":        {},
	"daemon/record":    {},
	"daemon/view":      {"manifests", "daemon/record", "daemon/steward"},
	"daemon/event":     {"manifests", "daemon/view"},
	"daemon/probe":     {},
	"daemon/pod":       {"daemon/probe"},
	"daemon/workload":  {"manifests", "daemon/view"},
	"daemon/endpoints": {"manifests", "daemon/view"},
	"daemon/pressure":  {},
	"daemon/placement": {},
	"daemon/steward":   {"daemon/record"},
	"daemon/lease":     {},
	"daemon/witness":   {"daemon/lease"},
	"daemon/gate":      {"daemon/lease"},
	"daemon/tenure":    {"daemon/lease", "daemon/gate"},
	"daemon/warden":    {"daemon/lease", "daemon/gate", "daemon/tenure", "daemon/witness", "daemon/cluster", "daemon/identity"},
	"daemon/exclusive": {"daemon/lease"},
	"daemon/nodelife":  {"daemon/workload"},
	"daemon/plan":      {"manifests", "daemon/view", "daemon/pod", "daemon/workload", "daemon/placement", "daemon/nodelife"},
	"daemon/shutdown":  {},
	"daemon/config":    {"daemon/nodelife", "daemon/pressure", "daemon/shutdown", "proxy/podcidr"},
	"daemon/cpuset":    {},
	"daemon/userns":    {},

	"daemon/footprint":     {},
	"daemon/podsecurity":   {},
	"daemon/identity":      {},
	"daemon/cluster":       {},
	"daemon/peer":          {"daemon/record", "daemon/cluster"},
	"daemon/gossip":        {}, // keys come as bytes
	"daemon/gossip/memnet": {},
	"daemon/token":         {},
	"daemon/cure":          {"daemon/workload"},

	"daemon/prober":     {"daemon/probe"},
	"daemon/scope":      {},
	"daemon/container":  {"daemon/idmap"},
	"daemon/image":      {"daemon/idmap"},
	"daemon/idmap":      {}, // a leaf of two system calls
	"daemon/journal":    {},
	"daemon/logind":     {},
	"proxy/nettest":     {},
	"proxy/nft":         {},
	"proxy/podnet":      {"proxy/nft"},
	"proxy/service":     {"proxy/nft"},
	"proxy/podcidr":     {},
	"proxy/podroute":    {},
	"dnsd":              {},
	"daemon/stats":      {},
	"daemon/metrics":    {"daemon/stats"},
	"storage/volume":    {},
	"daemon/credential": {},

	"daemon/api":             {"manifests", "daemon/view", "daemon/plan", "daemon/api/openapi"},
	"daemon/api/openapi":     {},
	"daemon/api/openapi/gen": {"daemon/api/openapi"},                     // writes daemon/api/openapi's data
	"daemon/api/apitest":     {"manifests", "daemon/view", "daemon/api"}, // what the API needs, for tests
	"daemon/remote":          {"manifests", "daemon/view", "daemon/api"},
	"daemon/agent":           {"daemon/cure", "daemon/exclusive", "daemon/probe", "daemon/prober", "daemon/cpuset", "daemon/userns", "daemon/stats", "daemon/pod", "daemon/scope", "daemon/container", "daemon/image", "proxy/podnet", "storage/volume"},
	"daemon/sim":             {"manifests", "daemon", "daemon/cluster", "daemon/config", "daemon/gossip", "daemon/gossip/memnet", "daemon/peer", "daemon/record", "daemon/view", "daemon/workload"},
	"daemon": {
		"manifests", "daemon/record", "daemon/view", "daemon/event", "daemon/pod", "daemon/workload", "daemon/config", "daemon/cpuset", "daemon/userns",
		"daemon/scope", "daemon/container", "daemon/image", "proxy/podnet", "dnsd", "storage/volume", "daemon/api", "daemon/remote", "daemon/agent",
		"daemon/stats", "daemon/metrics",
		"daemon/footprint",
		"daemon/podsecurity", "daemon/identity", "daemon/token",
		"daemon/credential", "daemon/pressure", "daemon/placement", "daemon/shutdown", "daemon/logind",
		"daemon/cluster", "daemon/peer", "daemon/steward", "daemon/gossip", "daemon/nodelife", "daemon/plan", "proxy/podcidr", "proxy/podroute", "proxy/service", "daemon/endpoints",
		"daemon/lease", "daemon/gate", "daemon/tenure",
		"daemon/exclusive",
	},
	"cmd/shoald": {"daemon", "daemon/config", "daemon/journal"},
	"cmd/shoal":  {"manifests", "daemon/api", "daemon/cure", "daemon/cluster", "daemon/plan", "daemon/tenure"},
	// Not a mode of shoald: it has 5 MB so, and 32 MB with what shoald links.
	"cmd/shoal-lease": {"daemon/warden", "daemon/gate", "daemon/journal", "daemon/lease", "daemon/tenure"},
}

// impure are imports that a pure package must not have, with the reason.
var impure = map[string]string{
	"os": "reads the world", "net": "talks to the world", "log": "speaks", "log/slog": "speaks", "sync": "shares state",
	"math/rand": "is chance", "math/rand/v2": "is chance", "os/exec": "acts",
}

// pure are the packages that only decide.
var pure = []string{"daemon/cpuset", "daemon/cure", "daemon/endpoints", "daemon/exclusive", "daemon/lease", "daemon/nodelife", "daemon/placement", "daemon/plan", "daemon/pod", "daemon/pressure", "daemon/shutdown", "daemon/steward", "daemon/userns", "daemon/workload", "proxy/podcidr"}

func TestPackagesImportOnlyWhatTheirLayerMay(t *testing.T) {
	files := goFiles(t)
	for _, file := range files {
		pkg := filepath.ToSlash(filepath.Dir(file))
		if strings.HasPrefix(pkg, "packaging/") || strings.HasSuffix(file, "_test.go") {
			continue // the test-bed and tests may use everything
		}
		allowed, known := layers[pkg]
		if !known {
			t.Errorf("%s: package %s has no line in layers", file, pkg)
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", file), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			ours, is := strings.CutPrefix(path, module)
			if is && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s, which %s may not", file, ours, pkg)
			}
			if why, bad := impure[path]; bad && slices.Contains(pure, pkg) {
				t.Errorf("%s imports %s, which %s: %s is pure", file, path, why, pkg)
			}
			if strings.HasPrefix(path, "k8s.io/kubectl") && pkg != "cmd/shoal" {
				t.Errorf("%s imports %s: kubectl's library is for the CLI alone (29 MB)", file, path)
			}
			if strings.HasPrefix(path, "k8s.io/apiserver") {
				t.Errorf("%s imports %s: the node's API is hand-written (74 MB idle with apiserver)", file, path)
			}
		}
	}
}

func TestPurePackagesDoNotAskForTheTime(t *testing.T) {
	for _, file := range goFiles(t) {
		if strings.HasSuffix(file, "_test.go") || !slices.Contains(pure, filepath.ToSlash(filepath.Dir(file))) {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", file), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After"}, sel.Sel.Name) {
				t.Errorf("%s calls time.%s: the clock is passed in", file, sel.Sel.Name)
			}
			return true
		})
	}
}

func TestEveryPackageHasOneDoc(t *testing.T) {
	docs := make(map[string][]string)
	for _, file := range goFiles(t) {
		pkg := filepath.ToSlash(filepath.Dir(file))
		if _, seen := docs[pkg]; !seen {
			docs[pkg] = nil
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", file), nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if f.Doc != nil {
			docs[pkg] = append(docs[pkg], file)
		}
	}
	for pkg, files := range docs {
		if len(files) != 1 && layers[pkg] != nil {
			t.Errorf("package %s has %d package comments, want one: %v", pkg, len(files), files)
		}
	}
}

// goFiles are the module's Go files, relative to its root.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := fs.WalkDir(os.DirFS(".."), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "debian" || d.Name() == "bin"):
			return fs.SkipDir
		case strings.HasSuffix(path, ".go"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("found only %d files", len(files))
	}
	return files
}
