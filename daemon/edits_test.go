package daemon

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/manifests"
)

func TestAnEditThatKubernetesForbidsIsAProblemAndChangesNothing(t *testing.T) {
	root := t.TempDir()
	f := openFiles(t, root, "n1")
	key := manifests.Key{Kind: "ConfigMap", Namespace: "default", Name: "c"}
	text := func(value string) string { return configMap("default", "c", value) + "immutable: true\n" }
	says := func(want string) {
		t.Helper()
		o, ok := f.view.Get(key)
		switch {
		case want == "" && ok:
			t.Errorf("it is still there: %v", o)
		case want != "" && (!ok || o.(*v1.ConfigMap).Data["k"] != want):
			t.Errorf("got %v, want data %q", o, want)
		}
	}
	problems := func() string {
		var b strings.Builder
		for _, p := range f.set.AllProblems() {
			b.WriteString(p.Error() + "\n")
		}
		return b.String()
	}
	f.write("c.yaml", text("one"))
	f.scan()
	f.write("c.yaml", text("two"))
	f.scan()
	says("one")
	want := root + "/etc/shoal/manifests/c.yaml:1:1: data: Forbidden: field is immutable when `immutable` is set; " +
		"what was declared before stays in force (to replace the ConfigMap, take it out of the file, and put it back when it is gone)\n"
	if got := problems(); got != want {
		t.Errorf("got %swant %s", got, want)
	}
	if list := f.manifestList(); list.Sources[0].Objects[0].State != "Invalid" {
		t.Errorf("shown as %+v", list.Sources[0].Objects[0])
	}
	f.shut()

	f = openFiles(t, root, "n1") // a restart changes nothing of that
	f.fold([]manifests.Key{key})
	f.scan()
	says("one")
	if got := problems(); got != want {
		t.Errorf("after a restart: %s", got)
	}
	f.write("c.yaml", text("one"))
	f.scan()
	if got := problems(); got != "" {
		t.Errorf("put right, and yet: %s", got)
	}
	f.remove("c.yaml")
	f.scan()
	f.now = f.now.Add(settle)
	f.scan()
	says("")
	f.write("c.yaml", text("two"))
	f.scan()
	says("two")
}
