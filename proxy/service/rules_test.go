package service

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Each file of testdata is a story: a service, its slices, and what it is on node
// n1 in zone east, whose node ports answer at 192.0.2.1 and fd00:ee::1.
func TestRules(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("no stories", err)
	}
	node := Node{Name: "n1", Zone: "east", NodePorts: addrs([]string{"192.0.2.1", "fd00:ee::1"})}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var s v1.Service
			var list []*discovery.EndpointSlice
			var want *txtar.File
			for i, f := range ar.Files {
				switch f.Name {
				case "service.yaml":
					err = yaml.UnmarshalStrict(f.Data, &s)
				case "rules":
					want = &ar.Files[i]
				default:
					var slice discovery.EndpointSlice
					err = yaml.UnmarshalStrict(f.Data, &slice)
					list = append(list, &slice)
				}
				if err != nil {
					t.Fatal(f.Name, err)
				}
			}
			var got strings.Builder
			rules := Rules(&s, list, node)
			for _, r := range rules {
				got.WriteString(r.String() + "\n")
			}
			slices.Reverse(list)
			if again := Rules(&s, list, node); !slices.EqualFunc(again, rules, Rule.equal) {
				t.Errorf("slices in another order: %v", again)
			}
			if *update {
				want.Data = []byte(got.String())
				if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got.String() != string(want.Data) {
				t.Errorf("got\n%swant\n%s", got.String(), want.Data)
			}
		})
	}
}
