package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/agent"
	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
)

// files is a daemon without a host: files, record and view are real, and its
// clock stands still. It is for objects that nothing runs.
type files struct {
	unready string // the member that can't decide now, as this host sees them
	*Daemon
	t    *testing.T
	now  time.Time
	shut func()
}

func openFiles(t *testing.T, root, node string, join ...string) *files {
	t.Helper()
	f := &files{t: t, now: time.Now()}
	log := slog.New(slog.DiscardHandler)
	f.Daemon = newDaemon(Options{Root: root, Config: &config.Config{Node: node, Join: join}, Log: log, Now: func() time.Time { return f.now }})
	f.agent = agent.New(context.Background(), agent.Config{Logger: log})
	if err := f.openStore(); err != nil {
		t.Fatal(err)
	}
	f.shut = sync.OnceFunc(f.closeStore)
	t.Cleanup(f.shut)
	f.reader = manifests.NewReader(manifests.StandardSources(root))
	return f
}

// entries is what this node's record has, deleted ones as well.
func (f *files) entries() (all map[record.Name]record.Entry) {
	f.records.Read(func(r map[string]*record.Record) { all = maps.Clone(r["n1"].Entries) })
	return all
}

// seq is the record's sequence number.
func (f *files) seq() (n uint64) {
	f.records.Read(func(r map[string]*record.Record) { n = r["n1"].Seq })
	return n
}

// scan looks at the files.
func (f *files) scan() { f.accept(f.reader.Scan(), manifests.Set{}) }

func (f *files) write(name, text string) {
	f.t.Helper()
	file := filepath.Join(f.Root, "etc/shoal/manifests", name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		f.t.Fatal(err)
	}
	// Renamed into place, and old enough for its stamp to count.
	if err := os.WriteFile(file+".tmp", []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(file+".tmp", file); err != nil {
		f.t.Fatal(err)
	}
}

func (f *files) remove(name string) {
	if err := os.Remove(filepath.Join(f.Root, "etc/shoal/manifests", name)); err != nil {
		f.t.Fatal(err)
	}
}

// objects lists the view's config maps and namespaces.
func (f *files) objects() string {
	var names []string
	for _, kind := range f.view.Kinds() {
		if kind.Kind != "ConfigMap" && kind.Kind != "Namespace" {
			continue
		}
		list, _ := f.view.List(kind, "")
		for _, o := range list {
			name := o.GetName()
			if o.GetNamespace() != "" {
				name = o.GetNamespace() + "/" + name
			}
			if o.GetDeletionTimestamp() != nil {
				name += "(ending)"
			}
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

func configMap(namespace, name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: %s, name: %s}\ndata: {k: %q}\n", namespace, name, value)
}

func TestLookingAgainAtUnchangedFilesPublishesNothing(t *testing.T) {
	root := t.TempDir()
	f := openFiles(t, root, "n1")
	f.write("a.yaml", configMap("x", "a", "a && b <c> \u2028 é"))
	f.scan()
	before := f.seq()
	f.scan()
	if f.seq() != before {
		t.Errorf("%d changes published by a second look", f.seq()-before)
	}
	f.shut()
	again := openFiles(t, root, "n1")
	before = again.seq()
	again.scan()
	if again.seq() != before {
		t.Errorf("%d changes published by the first look of the next daemon", again.seq()-before)
	}
}

func TestALookAtUnchangedFilesMakesNoClaimAnew(t *testing.T) {
	root := t.TempDir()
	f := openFiles(t, root, "n1")
	f.write("a.yaml", configMap("x", "a", "1"))
	f.write("b.yaml", configMap("x", "b", "1"))
	made := func() string {
		values, _ := f.claims()
		var keys []string
		for name := range values {
			keys = append(keys, name.Key)
		}
		slices.Sort(keys)
		return strings.Join(keys, " ")
	}
	f.scan()
	f.scan()
	if got := made(); got != "" {
		t.Errorf("made anew of unchanged files: %s", got)
	}
	f.write("b.yaml", configMap("x", "b", "2"))
	f.set = f.reader.Scan()
	if got := made(); got != "/ConfigMap/x/b" {
		t.Errorf("made anew after one edit: %q", got)
	}
	f.shut()
	f = openFiles(t, root, "n1") // which knows the record and not what it was made of
	f.fold([]manifests.Key{{Kind: "ConfigMap", Namespace: "x", Name: "a"}, {Kind: "ConfigMap", Namespace: "x", Name: "b"}})
	f.scan()
	f.scan()
	if got := made(); got != "" {
		t.Errorf("made anew by the next daemon: %s", got)
	}
}

func TestAFileMustBeGoneForAMomentToCount(t *testing.T) {
	f := openFiles(t, t.TempDir(), "n1")
	f.write("a.yaml", configMap("x", "a", "1"))
	f.scan()
	f.remove("a.yaml")
	f.scan()
	if got := f.objects(); got != "x/a x" || f.unsettled == nil {
		t.Fatalf("at once: %q; looks again: %v", got, f.unsettled != nil)
	}
	f.write("b.yaml", configMap("x", "a", "2"))
	f.now = f.now.Add(settle)
	f.scan()
	if got := f.objects(); got != "x/a x" || len(f.missing) > 0 {
		t.Fatalf("written again: %q, missing %v", got, f.missing)
	}
	f.remove("b.yaml")
	f.scan()
	f.now = f.now.Add(settle)
	f.scan()
	if got := f.objects(); got != "" || f.unsettled != nil {
		t.Errorf("gone for good: %q; looks again: %v", got, f.unsettled != nil)
	}
}

func TestNamespacesExistWhileSomethingIsInThem(t *testing.T) {
	f := openFiles(t, t.TempDir(), "n1")
	f.write("a.yaml", configMap("x", "a", "1"))
	f.scan()
	f.write("a.yaml", configMap("x", "b", "1")) // renamed: one goes, one comes
	for range 2 {
		f.scan()
		f.now = f.now.Add(settle)
	}
	if got := f.objects(); got != "x/b x" {
		t.Errorf("after a rename: %q", got)
	}
	f.ending["x"] = f.now
	f.fold([]manifests.Key{{Kind: "Namespace", Name: "x"}})
	if got := f.objects(); got != "x/b x(ending)" {
		t.Errorf("deleted with something in it: %q", got)
	}
	f.remove("a.yaml")
	for range 2 {
		f.scan()
		f.now = f.now.Add(settle)
	}
	if got := f.objects(); got != "" || len(f.ending) > 0 {
		t.Errorf("emptied: %q, ending %v", got, f.ending)
	}
}

func TestTheNodeKeepsItsNameWhenTheHostGetsAnother(t *testing.T) {
	root := t.TempDir()
	openFiles(t, root, "n1").shut()
	f := openFiles(t, root, "renamed")
	if f.Config.Node != "n1" {
		t.Errorf("the node calls itself %q", f.Config.Node)
	}
	f.Config = &config.Config{Node: "other", NodeGiven: true}
	if err := f.keepName(); err == nil || !strings.Contains(err.Error(), `set node = "n1"`) {
		t.Errorf("another name in the configuration: %v", err)
	}
}

func TestDeletedEntriesAreForgottenWhenThereAreMany(t *testing.T) {
	f := openFiles(t, t.TempDir(), "n1")
	for i := range tombstones + 2 {
		f.write("a.yaml", configMap("x", fmt.Sprint("a", i), "1"))
		f.scan()
		f.now = f.now.Add(settle)
	}
	f.scan()
	f.records.Compact(tombstones)
	if n := len(f.entries()); n > 5 {
		t.Errorf("%d entries left", n)
	}
}

// value is the data of config map x/a, as the view has it.
func (f *files) value() string {
	o, ok := f.view.Get(manifests.Key{Kind: "ConfigMap", Namespace: "x", Name: "a"})
	if !ok {
		return "none"
	}
	return o.(*v1.ConfigMap).Data["k"]
}

func TestAnAPIWriteWinsUntilTheFileIsEdited(t *testing.T) {
	f := openFiles(t, t.TempDir(), "n1")
	write := func(value string) []string {
		t.Helper()
		o := &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "a"}, Data: map[string]string{"k": value}}
		key, _ := manifests.KeyOf(o)
		warnings, err := writer{f.Daemon}.write(key, o, api.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f.scan()
		return warnings
	}
	step := func(what, want string) {
		t.Helper()
		f.scan()
		f.now = f.now.Add(settle)
		f.scan()
		if got := f.value(); got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	f.write("a.yaml", configMap("x", "a", "file"))
	step("declared", "file")
	if w := write("api"); len(w) != 1 || !strings.Contains(w[0], "a.yaml on node n1") {
		t.Errorf("warnings %q do not name file and node", w)
	}
	step("changed through the API", "api")
	write("api again")
	step("changed through the API again", "api again")
	if _, err := (writer{f.Daemon}).remove(manifests.Key{Kind: "ConfigMap", Namespace: "x", Name: "a"}, api.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("deleted through the API: %v", err)
	}
	f.write("b.yaml", configMap("x", "a", "file"))
	f.remove("a.yaml")
	step("moved to another file", "api again")
	f.write("b.yaml", configMap("x", "a", "edited"))
	step("file edited", "edited")
	write("api at last")
	f.remove("b.yaml")
	step("file removed", "none")
}
