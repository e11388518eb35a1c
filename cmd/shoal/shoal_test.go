package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/api"
)

func TestWithoutADaemonOneLineSaysWhatToDo(t *testing.T) {
	h := newHost(t)
	dead := filepath.Join(t.TempDir(), "dead.sock")
	for _, args := range [][]string{{"get", "pods"}, {"status"}, {"apply", "-f", "-"}, {"image", "ls"}, {"exec", "x", "--", "true"}} {
		out, code := try(t, h.shoal(append(args, "--socket="+dead)...), "")
		want := "error: shoald is not running (no " + dead + "): systemctl start shoald\n"
		if args[0] == "exec" { // the flag is the command's there
			c := h.shoal(args...)
			c.Env = append(c.Env, "SHOAL_SOCKET="+dead)
			out, code = try(t, c, "")
		}
		if out != want || code != 1 {
			t.Errorf("%v: got exit code %d and %q, want 1 and %q", args, code, out, want)
		}
	}
}

func TestWhatNeedsNoDaemonWorksWithoutOne(t *testing.T) {
	h := newHost(t)
	dead := filepath.Join(t.TempDir(), "dead.sock")
	for _, args := range [][]string{
		{"version"}, {"help"}, {"get", "--help"}, {"completion", "bash"},
		{"create", "cm", "x", "--dry-run=client", "-o", "yaml"},
	} {
		c := h.shoal(args...)
		c.Env = append(c.Env, "SHOAL_SOCKET="+dead)
		must(t, c, "")
	}
}

func TestValidateSaysWhereAndEndsAsAnsibleWants(t *testing.T) {
	h := newHost(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, bad := file("good.yaml", podYAML), file("bad.yaml", strings.Replace(podYAML, "image:", "imaeg:", 1))
	for _, test := range []struct {
		args  []string
		stdin string
		code  int
		want  string
	}{
		{[]string{good}, "", 0, "1 object in 1 file: valid"},
		{[]string{"-"}, podYAML, 0, "1 object in 1 file: valid"},
		{[]string{bad}, "", 1, bad + ":6:"},
		{[]string{"-"}, "kind: [", 1, "<stdin>:1:"},
		{[]string{dir}, "", 1, bad + ":6:"},
		{[]string{filepath.Join(dir, "none.yaml")}, "", 2, "no such file"},
		{nil, "", 2, "needs a file"},
		{[]string{"--what"}, "", 2, "unknown flag"},
		{[]string{good, "-o", "xml"}, "", 2, "want json"},
	} {
		out, code := try(t, h.shoal(append([]string{"validate"}, test.args...)...), test.stdin)
		if code != test.code || !strings.Contains(out, test.want) {
			t.Errorf("validate %v: got exit code %d and %q, want %d and %q", test.args, code, out, test.code, test.want)
		}
	}
	out, _ := try(t, h.shoal("validate", "-o", "json", bad), "")
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Valid || len(r.Problems) == 0 || r.Problems[0].Pos.Line != 6 {
		t.Errorf("json: %v\n%s", err, out)
	}
}

func TestManifestsShowsEachFileItsObjectsAndProblems(t *testing.T) {
	h := newHost(t)
	h.Shoal.Sources = api.ManifestList{Sources: []api.ManifestSource{
		{Path: "/etc/shoal/manifests/web.yaml", State: api.StateStale,
			Objects:  []api.ManifestObject{{Kind: "Pod", Namespace: "default", Name: "web", Line: 1, State: api.StateActive}},
			Problems: []api.ManifestProblem{{Line: 7, Column: 3, Field: "spec", Message: `unknown field "x"`, Suggestion: "y"}}},
		{Path: "/etc/shoal/manifests/notes.txt", State: api.StateIgnored, Reason: "no manifest"},
	}}
	got := must(t, h.shoal("manifests"), "")
	want := `FILE                             LINE   OBJECT    NAMESPACE   STATE     REASON
/etc/shoal/manifests/web.yaml    1      Pod/web   default     Active    
/etc/shoal/manifests/notes.txt                                Ignored   no manifest
/etc/shoal/manifests/web.yaml:7:3: spec: unknown field "x" (did you mean y?)
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestStatusShowsWhatIsNotEnforced(t *testing.T) {
	h := newHost(t)
	h.Shoal.State = api.Status{Node: "n1", Version: "1", Supervisor: "cgroups", Unenforced: []string{"memory"},
		Pods: map[string]int{"Running": 2}, Started: time.Now().Add(-time.Hour)}
	out := must(t, h.shoal("status"), "")
	for _, want := range []string{"n1", "cgroups (not enforced: memory)", "2 Running", "60m"} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in:\n%s", want, out)
		}
	}
}

func TestImagesArePulledLoadedListedAndRemoved(t *testing.T) {
	h := newHost(t)
	out := must(t, h.shoal("image", "pull", "busybox:1"), "")
	if want := "0123abcd: pulling 500B/1.0kB\n0123abcd: done 1.0kB/1.0kB\nfeedfacecafe busybox:1\n"; out != want {
		t.Errorf("pull: got %q, want %q", out, want)
	}
	if out, code := try(t, h.shoal("image", "pull", "missing"), ""); code != 1 || out != "error: pull missing: not found\n" {
		t.Errorf("pull what is not there: got exit code %d and %q", code, out)
	}
	out = must(t, h.shoal("image", "load", "-"), strings.Repeat("x", 5<<20))
	if !strings.Contains(out, "stdin: reading ") || !strings.Contains(out, "stdin: unpacking 5.2MB\n") {
		t.Errorf("load: got %q", out)
	}
	if out, code := try(t, h.shoal("image", "lod"), ""); code != 1 || out != "error: unknown command \"lod\" for \"shoal image\": see 'shoal image --help'\n" {
		t.Errorf("lod: got exit code %d and %q", code, out)
	}
	if h.Shoal.Loaded != 5<<20 {
		t.Errorf("loaded %d bytes, want %d", h.Shoal.Loaded, 5<<20)
	}
	if out := must(t, h.shoal("image", "ls"), ""); !strings.Contains(out, "busybox:1") || !strings.Contains(out, "1.0kB") {
		t.Errorf("ls:\n%s", out)
	}
	must(t, h.shoal("image", "rm", "busybox:1"), "")
	if out, code := try(t, h.shoal("image", "rm", "busybox:1"), ""); code != 1 || !strings.Contains(out, "not found") {
		t.Errorf("rm twice: got exit code %d and %q", code, out)
	}
}

func TestAProgressLineFitsItsTerminal(t *testing.T) {
	for width := 40; width < 200; width += 13 {
		for _, p := range []api.Progress{
			{Part: "0123456789abcdef", Phase: "pulling", Done: 1 << 20, Total: 1 << 30},
			{Part: "x", Phase: "a phase of many words", Done: 5}, {Part: "\x1b[2J", Total: 7, Done: 99},
		} {
			got := line(p, width)
			if len(got) >= width || strings.Contains(got, "\x1b") {
				t.Errorf("width %d: %q", width, got)
			}
		}
	}
}

func TestTheProxyRefusesWebPages(t *testing.T) {
	h := newHost(t)
	proxy := start(t, h.shoal("proxy", "--port=0"))
	_, addr, _ := strings.Cut(proxy.want("Starting to serve on"), "on ")
	get := func(change func(*http.Request)) int {
		t.Helper()
		r, err := http.NewRequest("GET", "http://"+addr+"/api/v1/pods", nil)
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := get(func(*http.Request) {}); got != 200 {
		t.Errorf("own user: got %d, want 200", got)
	}
	if got := get(func(r *http.Request) { r.Host = "evil.example" }); got != 403 {
		t.Errorf("foreign name: got %d, want 403", got)
	}
	if got := get(func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }); got != 403 {
		t.Errorf("foreign page: got %d, want 403", got)
	}
}
