package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
)

// fileHosts are hosts of one cluster, each with files, record and view, and no
// network: who hears what of whom is the test's to say.
type fileHosts struct {
	t     *testing.T
	roots map[string]string
	nodes []*files
}

func openHosts(t *testing.T, names ...string) *fileHosts {
	h := &fileHosts{t: t, roots: make(map[string]string)}
	for _, name := range names {
		h.roots[name] = t.TempDir()
		h.nodes = append(h.nodes, h.open(name))
	}
	return h
}

// open starts a host, on an empty disk or on what it had. With others to join it
// tells nobody anything until it is told to publish.
func (h *fileHosts) open(name string, join ...string) *files {
	h.t.Helper()
	lib := filepath.Join(h.roots[name], "var/lib/shoal")
	if err := os.MkdirAll(lib, 0o755); err != nil {
		h.t.Fatal(err)
	}
	store, err := record.Open(filepath.Join(lib, "store.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		h.t.Fatal(err)
	}
	for name, value := range map[string]string{metaCluster: "one", metaID: `{"id":"one","minted":1700000000000}`} {
		if err := store.SetMeta(name, value); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		h.t.Fatal(err)
	}
	return openFiles(h.t, h.roots[name], name, join...)
}

// restart stops a host and starts it on its disk. What between does meanwhile it
// does not see happen.
func (h *fileHosts) restart(i int, between func(*files)) *files {
	f := h.nodes[i]
	f.shut()
	between(f)
	n := h.open(f.Config.Node)
	n.now = f.now
	h.nodes[i] = n
	var keys []manifests.Key
	n.records.Read(func(all map[string]*record.Record) {
		for _, r := range all {
			for name := range r.Entries {
				if key, err := manifests.ParseKey(name.Key); err == nil {
					keys = append(keys, key)
				}
			}
		}
	})
	n.fold(keys)
	n.scan()
	return n
}

// hears has one host take in all that another one knows.
func (h *fileHosts) hears(to, from *files) (news bool) {
	h.t.Helper()
	for _, w := range to.records.Wants(from.records.Heads(), func(string) bool { return false }) {
		a, ok, err := from.records.Answer(w)
		if err != nil {
			h.t.Fatal(err)
		}
		if !ok {
			continue
		}
		changed, err := to.records.Merge(a)
		if err != nil {
			h.t.Fatal(err)
		}
		news = news || changed
	}
	to.takeIn()
	return news
}

// look has a host look at its files, and again when that is due.
func (f *files) look() {
	f.scan()
	f.now = f.now.Add(settle)
	f.scan()
}

// meet has these hosts, or all, hear of each other until there is nothing new.
func (h *fileHosts) meet(nodes ...*files) {
	h.t.Helper()
	if nodes == nil {
		nodes = h.nodes
	}
	for round := 0; ; round++ {
		news := false
		for _, to := range nodes {
			for _, from := range nodes {
				news = to != from && h.hears(to, from) || news
			}
			select {
			case <-to.scanned:
				to.look()
			default:
			}
		}
		if !news {
			return
		}
		if round > 50 {
			h.t.Fatal("hosts that hear of each other never come to rest")
		}
	}
}

// identity is what the object is to other objects, and its content.
func (f *files) identity() string {
	o, ok := f.view.Get(configKey)
	if !ok {
		return "none"
	}
	return fmt.Sprintf("%s uid=%s since=%s generation=%d", o.(*v1.ConfigMap).Data["k"], o.GetUID(), o.GetCreationTimestamp(), o.GetGeneration())
}

var configKey = manifests.Key{Kind: "ConfigMap", Namespace: "x", Name: "a"}

// says checks that all hosts have that value, in one and the same object.
func (h *fileHosts) says(what, want string) {
	h.t.Helper()
	for _, f := range h.nodes {
		if got := f.value(); got != want {
			h.t.Errorf("%s: %s has %q, want %q", what, f.Config.Node, got, want)
		}
		if got, first := f.identity(), h.nodes[0].identity(); got != first {
			h.t.Errorf("%s: on %s it is %s, on %s %s", what, f.Config.Node, got, h.nodes[0].Config.Node, first)
		}
	}
}

// state is how shoal manifests shows the object of a file.
func (f *files) state(name string) string {
	for _, s := range f.manifestList().Sources {
		if strings.HasSuffix(s.Path, "/"+name) && len(s.Objects) > 0 {
			o := s.Objects[0]
			return strings.TrimSpace(string(o.State) + " " + strings.ReplaceAll(o.Reason, f.Root, ""))
		}
	}
	return "none"
}

// put writes through the API.
func (f *files) put(value string) (warnings []string) {
	f.t.Helper()
	o := &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "a"}, Data: map[string]string{"k": value}}
	warnings, err := writer{f.Daemon}.write(configKey, o, api.WriteOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	f.scan()
	delete(f.made, configKey)
	return warnings
}

func (f *files) delete() error {
	_, err := writer{f.Daemon}.remove(configKey, api.DeleteOptions{})
	f.look()
	return err
}

func (f *files) eventsOf(reason string) string {
	var b strings.Builder
	list, _ := f.view.List(manifests.Key{Kind: "Event"}.GroupKind(), "")
	for _, o := range list {
		if e := o.(*v1.Event); e.Reason == reason {
			b.WriteString(strings.ReplaceAll(e.Message, f.Root, "") + "\n")
		}
	}
	return b.String()
}

func TestTheSameFileOnAllHostsIsOneObject(t *testing.T) {
	h := openHosts(t, "n1", "n2", "n3")
	for i, f := range h.nodes { // before any has heard of another
		f.now = f.now.Add(settle * 10 * 1 << (3 - i))
		f.write("a.yaml", configMap("x", "a", "one"))
		f.scan()
	}
	h.meet()
	h.says("put on all hosts at once", "one")
	uid := h.nodes[0].identity()
	for _, f := range h.nodes {
		if got := f.state("a.yaml"); got != "Active" {
			t.Errorf("on %s: %s", f.Config.Node, got)
		}
	}
	// The one that was first no longer declares it: it is the same object still.
	first := h.nodes[2]
	first.remove("a.yaml")
	first.look()
	h.meet()
	h.says("gone from one", "one")
	if got := first.identity(); got != uid {
		t.Errorf("got %s, before it was %s", got, uid)
	}
	if got, want := first.eventsOf("StillDeclared"), "/etc/shoal/manifests/a.yaml on node n3 no longer declares it; still declared by n1: "+
		h.nodes[0].Root+"/etc/shoal/manifests/a.yaml\n"; got != want {
		t.Errorf("event %q, want %q", got, want)
	}
	for _, f := range h.nodes[:2] {
		f.remove("a.yaml")
		f.look()
	}
	h.meet()
	h.says("gone from all", "none")
	h.nodes[1].write("a.yaml", configMap("x", "a", "one"))
	h.nodes[1].scan()
	h.meet()
	h.says("put again", "one")
	if got := h.nodes[0].identity(); got == uid {
		t.Error("an object that was gone has come back as the same")
	}
}

func TestTheNewestEditIsInForceOnAllHosts(t *testing.T) {
	h := openHosts(t, "n1", "n2", "n3")
	n1, n2, n3 := h.nodes[0], h.nodes[1], h.nodes[2]
	edit := func(f *files, value string) {
		f.now = f.now.Add(settle)
		f.write("a.yaml", configMap("x", "a", value))
		f.scan()
	}
	for _, f := range h.nodes {
		edit(f, "v1")
	}
	h.meet()
	edit(n2, "v2")
	h.meet()
	h.says("edited on n2", "v2")
	want := "Stale a newer edit on node n2: " + n2.Root + "/etc/shoal/manifests/a.yaml wins"
	if got := n1.state("a.yaml"); got != want {
		t.Errorf("n1's copy is %s, want %s", got, want)
	}
	if got := n2.state("a.yaml"); got != "Active" {
		t.Errorf("n2's is %s", got)
	}
	n1.reportStale()
	if got := n1.eventsOf(reasonStale); got != "" {
		t.Errorf("said at once: %s", got)
	}
	n1.now = n1.now.Add(staleAfter)
	n1.reportStale()
	n1.reportStale()
	if got, want := n1.eventsOf(reasonStale), "/etc/shoal/manifests/a.yaml on node n1 is not in force: "+strings.TrimPrefix(want, "Stale ")+"\n"; got != want {
		t.Errorf("event %q, want %q", got, want)
	}
	edit(n3, "v3")
	edit(n1, "v2") // the copy comes late
	h.meet()
	h.says("a copy that comes late", "v3")
	edit(n1, "v3")
	edit(n2, "v3")
	h.meet()
	for _, f := range h.nodes {
		if got := f.state("a.yaml"); got != "Active" {
			t.Errorf("with one file on all, on %s: %s", f.Config.Node, got)
		}
	}
	if o, _ := n1.view.Get(configKey); o.GetGeneration() != 3 {
		t.Errorf("after two edits, each copied to all hosts: generation %d", o.GetGeneration())
	}

	n1 = h.restart(0, func(f *files) { f.write("a.yaml", configMap("x", "a", "v1")) })
	h.meet()
	h.says("n1 was rebuilt from an old image", "v3")
	n2.remove("a.yaml")
	n2.look()
	n3.remove("a.yaml")
	n3.look()
	h.meet()
	h.says("what n1 has is all that is left", "v1")
	if o, _ := n1.view.Get(configKey); o.GetGeneration() != 4 {
		t.Errorf("the content changed, and the generation is %d", o.GetGeneration())
	}
	edit(n2, "v4")
	h.meet()
	n2.now = n2.now.Add(-1000 * settle)
	edit(n2, "v1") // goes back, with a clock that does
	h.meet()
	h.says("n2 goes back", "v1")
}

func TestAnAPIWriteOverAnotherHostsFile(t *testing.T) {
	h := openHosts(t, "n1", "n2", "n3")
	n1, n2 := h.nodes[0], h.nodes[1]
	n1.write("a.yaml", configMap("x", "a", "file"))
	n1.scan()
	h.meet()
	file := n1.Root + "/etc/shoal/manifests/a.yaml on node n1 declares "
	n2.now = n2.now.Add(settle)
	if w := strings.Join(n2.put("api"), "\n"); w != file+"this object: the change holds until that file is edited" {
		t.Errorf("warning %q", w)
	}
	h.meet()
	h.says("changed on n2", "api")
	for _, f := range h.nodes {
		if err := f.delete(); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), file+"it: delete that file, or the object in it") {
			t.Errorf("deleted on %s: %v", f.Config.Node, err)
		}
	}
	h.meet()
	h.says("deleted in vain", "api")
	h.restart(1, func(*files) {})
	h.meet()
	h.says("after a restart", "api")
	n1.write("b.yaml", configMap("x", "a", "file"))
	n1.remove("a.yaml")
	n1.look()
	h.meet()
	h.says("the file was renamed", "api")
	n1.now = n1.now.Add(20 * settle)
	n1.write("b.yaml", configMap("x", "a", "edited"))
	n1.scan()
	h.meet()
	h.says("the file was edited", "edited")

	n2 = h.nodes[1]
	n2.now = n1.now.Add(settle)
	n2.put("api again")
	h.meet()
	h.says("changed on n2 again", "api again")
	n1.remove("b.yaml")
	n1.look()
	for _, f := range h.nodes { // n2 has done nothing yet
		h.hears(f, n1)
		if got := f.value(); got != "none" {
			t.Errorf("without the file %s has %q", f.Config.Node, got)
		}
	}
	h.meet()
	h.says("the file is gone", "none")
	if got := n2.state("a.yaml"); got != "Stale written over a declaration that is gone" {
		t.Errorf("the API's copy is shown as %s", got)
	}
	n1.write("b.yaml", configMap("x", "a", "edited"))
	for range 2 {
		n2.now = n2.now.Add(staleAfter)
		n2.look()
	}
	n1.scan()
	h.meet()
	n2.look()
	h.meet()
	h.says("the file says again what it said when the API wrote over it", "edited")
	n1.remove("b.yaml")
	n1.look()
	h.meet()
	n2.now = n2.now.Add(settle)
	n2.put("new")
	h.meet()
	h.says("made anew", "new")
}

func TestWhatTheAPIWroteIsDeletedOnAnyNode(t *testing.T) {
	h := openHosts(t, "n1", "n2", "n3")
	n1, n2, n3 := h.nodes[0], h.nodes[1], h.nodes[2]
	n1.put("v1")
	h.meet()
	n2.now = n2.now.Add(settle)
	n2.put("v2")
	h.meet()
	h.says("written on n1, then on n2", "v2")
	n1.now = n1.now.Add(2 * settle)
	n1.put("v1")
	h.meet()
	h.says("and back, on n1", "v1")
	before := n3.identity()
	n3.now = n3.now.Add(3 * settle)
	if err := n3.delete(); err != nil {
		t.Fatal(err)
	}
	h.meet(n1, n3) // n2 is down
	if got := n1.value() + n3.value(); got != "nonenone" {
		t.Errorf("deleted on n3: n1 and n3 have %s", got)
	}
	n3.now = n3.now.Add(settle)
	n3.put("v1") // the same content as before
	h.meet(n1, n3)
	if got := n1.identity(); !strings.HasPrefix(got, "v1 ") || got == before {
		t.Errorf("made anew on n3, n1 has %s, before it had %s", got, before)
	}
	h.restart(1, func(*files) {}) // n2 comes back with its file
	if got := h.nodes[1].value(); got == "none" {
		t.Error("n2 does not run what it knows")
	}
	h.meet()
	h.says("n2 is back", "v1")
	for _, f := range h.nodes[:2] {
		if _, err := os.Stat(f.apiFile(configKey)); err == nil {
			t.Errorf("%s keeps the file of what was deleted", f.Config.Node)
		}
	}
	if err := n1.delete(); err != nil {
		t.Fatal(err)
	}
	h.meet()
	h.says("deleted on n1", "none")
	for _, f := range h.nodes {
		if v := f.Daemon.own(claimName(configKey)); v != nil {
			t.Errorf("%s goes on saying %s", f.Config.Node, v)
		}
	}
}

func TestAnEditThatKubernetesForbidsIsHeldAgainstWhatAnyHostDeclares(t *testing.T) {
	h := openHosts(t, "n1", "n2")
	n1, n2 := h.nodes[0], h.nodes[1]
	text := func(value string) string { return configMap("x", "a", value) + "immutable: true\n" }
	problems := func(f *files) string {
		var b strings.Builder
		for _, p := range f.set.AllProblems() {
			b.WriteString(strings.ReplaceAll(p.Error(), h.nodes[1].Root, "n2:") + "\n")
		}
		return b.String()
	}
	n1.write("a.yaml", text("one"))
	n1.scan()
	h.meet()
	n2.now = n2.now.Add(settle)
	n2.write("a.yaml", text("two"))
	n2.scan()
	want := "n2:/etc/shoal/manifests/a.yaml:1:1: data: Forbidden: field is immutable when `immutable` is set; what " + n1.Root +
		"/etc/shoal/manifests/a.yaml on node n1 declares stays in force (to replace the ConfigMap, take it out of all files, and put it back when it is gone)\n"
	if got := problems(n2); got != want {
		t.Errorf("got %swant %s", got, want)
	}
	h.meet()
	h.says("another content on n2", "one")
	if got := n2.state("a.yaml"); !strings.HasPrefix(got, "Invalid") {
		t.Errorf("n2's file is %s", got)
	}
	n1.remove("a.yaml")
	n1.look()
	h.meet()
	h.says("n1's file is gone", "two")
	if got := problems(n2); got != "" {
		t.Errorf("what was in the way is gone, and yet: %s", got)
	}
}

// rejoin starts a host whose disk between has changed, has it look at its files,
// hear the others, take back what it was, and publish.
func (h *fileHosts) rejoin(i int, between func(*files)) *files {
	h.t.Helper()
	f := h.nodes[i]
	f.shut()
	between(f)
	n := h.open(f.Config.Node, "others")
	n.now = f.now
	h.nodes[i] = n
	n.look()
	if n.records.Published() {
		h.t.Fatal("it has published before it heard anybody")
	}
	for _, from := range h.nodes {
		if from != n {
			h.hears(n, from)
		}
	}
	n.records.PublishFirst()
	n.takeIn()
	n.look()
	h.meet()
	return n
}

func (f *files) store() string { return filepath.Join(f.Root, "var/lib/shoal/store.db") }

func TestAHostThatLostItsStoreHasTheSameObjects(t *testing.T) {
	h := openHosts(t, "n1", "n2")
	n1 := h.nodes[0]
	for _, value := range []string{"v1", "v2"} {
		n1.now = n1.now.Add(settle)
		n1.write("a.yaml", configMap("x", "a", value))
		n1.scan()
		h.meet()
	}
	before := n1.identity()
	n1.now = n1.now.Add(100 * settle)
	n1 = h.rejoin(0, func(f *files) { os.Remove(f.store()) })
	h.says("rebuilt with its file", "v2")
	if got := n1.identity(); got != before {
		t.Errorf("it is %s, before it was %s", got, before)
	}
	h.rejoin(0, func(f *files) {
		os.Remove(f.store())
		f.write("a.yaml", configMap("x", "a", "v3"))
	})
	h.says("rebuilt with a newer file", "v3")
	if got, want := n1.identity(), strings.NewReplacer("v2", "v3", "generation=2", "generation=3").Replace(before); h.nodes[0].identity() != want {
		t.Errorf("it is %s, want %s", got, want)
	}
}

func TestAHostFromAnOldImageRollsNothingBack(t *testing.T) {
	h := openHosts(t, "n1", "n2", "n3")
	n1 := h.nodes[0]
	var image []byte
	for i, value := range []string{"v1", "v2", "v3"} {
		n1.now = n1.now.Add(settle)
		n1.write("a.yaml", configMap("x", "a", value))
		n1.scan()
		h.meet()
		if i == 0 {
			n1 = h.restart(0, func(f *files) { image, _ = os.ReadFile(f.store()) })
		}
	}
	h.nodes[2].now = n1.now
	h.nodes[2].write("a.yaml", configMap("x", "a", "v3"))
	h.nodes[2].scan()
	h.meet()
	before := n1.identity()
	n1.now = n1.now.Add(100 * settle)
	n1 = h.rejoin(0, func(f *files) {
		if err := os.WriteFile(f.store(), image, 0o600); err != nil {
			t.Fatal(err)
		}
		f.write("a.yaml", configMap("x", "a", "v1"))
	})
	h.says("an image of v1", "v3")
	if got := n1.identity(); strings.Split(got, " ")[1] != strings.Split(before, " ")[1] {
		t.Errorf("it is %s, before it was %s", got, before)
	}
	n1.now = n1.now.Add(settle)
	n1.write("a.yaml", configMap("x", "a", "v2"))
	n1.scan()
	h.meet()
	h.says("what is known comes late", "v3")
	n1.now = n1.now.Add(settle)
	n1.write("a.yaml", configMap("x", "a", "v3"))
	n1.scan()
	n1.write("a.yaml", configMap("x", "a", "v1"))
	n1.scan()
	h.meet()
	h.says("somebody goes back", "v1")
}

func TestWhatNobodyDeclaresIsTheSameOnAllHosts(t *testing.T) {
	h := openHosts(t, "n1", "n2")
	h.nodes[1].now = h.nodes[1].now.Add(time.Hour)
	h.nodes[0].write("a.yaml", configMap("x", "a", "v"))
	h.nodes[0].scan()
	h.meet()
	for i, f := range h.nodes {
		if i == 1 {
			f = h.restart(1, func(*files) {})
		}
		f.refoldImplied()
	}
	var said []string
	for _, f := range h.nodes {
		var b strings.Builder
		for _, kind := range f.view.Kinds() {
			list, _ := f.view.List(kind, "")
			for _, o := range list {
				fmt.Fprintln(&b, kind, o.GetNamespace(), o.GetName(), o.GetUID(), o.GetCreationTimestamp().UTC())
			}
		}
		said = append(said, b.String())
	}
	if said[0] != said[1] || !strings.Contains(said[0], "ServiceAccount x default") || !strings.Contains(said[0], "2023-11-14 22:13:20") {
		t.Errorf("n1:\n%s\nn2:\n%s", said[0], said[1])
	}
}
