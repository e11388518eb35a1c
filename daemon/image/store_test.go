package image

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"golang.org/x/sys/unix"
)

var emptyIndex = empty.Index

func TestNamesAndPolicies(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for _, tc := range []struct{ ref, full, policy string }{
		{"nginx", "docker.io/library/nginx:latest", "Always"},
		{"nginx:1.27", "docker.io/library/nginx:1.27", "IfNotPresent"},
		{"nginx:latest", "docker.io/library/nginx:latest", "Always"},
		{"bitnami/redis", "docker.io/bitnami/redis:latest", "Always"},
		{"index.docker.io/library/nginx:1", "docker.io/library/nginx:1", "IfNotPresent"},
		{"localhost:5000/x", "localhost:5000/x:latest", "Always"},
		{"registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10", "IfNotPresent"},
		{"nginx@" + digest, "docker.io/library/nginx@" + digest, "IfNotPresent"},
		{"nginx:1.2@" + digest, "docker.io/library/nginx@" + digest, "IfNotPresent"},
		{digest, digest, "IfNotPresent"},
		{"rootfs:///srv/x", "rootfs:///srv/x", "IfNotPresent"},
	} {
		if got, err := Normalize(tc.ref); err != nil || got != tc.full {
			t.Errorf("Normalize(%s) = %s, %v; want %s", tc.ref, got, err, tc.full)
		}
		if got := DefaultPolicy(tc.ref); string(got) != tc.policy {
			t.Errorf("DefaultPolicy(%s) = %s, want %s", tc.ref, got, tc.policy)
		}
	}
	for _, bad := range []string{"", "Nginx", "a b", "x:", "-", "http://x/y", strings.Repeat("a", 64)} {
		if _, err := Normalize(bad); !errors.Is(err, ErrInvalidName) {
			t.Errorf("Normalize(%q): got %v, want ErrInvalidName", bad, err)
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "version"), []byte("2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), "says 2") {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 { // version, lock
		t.Errorf("a store of a newer format was touched: %v", entries)
	}
}

func TestStoreHasOneOwner(t *testing.T) {
	s := openStore(t, Config{})
	if _, err := Open(Config{Dir: s.dir}, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
}

// The store of the first release, as it was written then.
func TestFormatOneIsRead(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"version":             "1",
		"names.json":          `{"names":{"docker.io/library/x:v1":"sha256:` + strings.Repeat("1", 64) + `"},"digests":{}}`,
		"images/1.json":       `{"id":"sha256:` + strings.Repeat("1", 64) + `","chains":["sha256:c"],"config":{"config":{"User":"7"}}}`,
		"layers/z/layer.json": `{"chain":"sha256:c","diff":"sha256:c","size":12}`,
		"layers/z/diff/a":     "hello",
	} {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s := openStore(t, Config{Dir: dir})
	img, err := s.Get("x:v1")
	if err != nil || img.Config.User != "7" || img.Size != 12 || listing(t, img.Layers[0]) != "a hello\n" {
		t.Errorf("got %+v, %v", img, err)
	}
	if s.next != 36 {
		t.Errorf("next layer is %d, want 36", s.next)
	}
}

func TestRemoveSparesWhatIsSharedOrUsed(t *testing.T) {
	needRoot(t)
	reg := newRegistry(t)
	base := layerOf(t, file("base", "b"))
	one := hostImage(t, base, layerOf(t, file("one", "1")))
	reg.push(t, "one:v1", one)
	reg.push(t, "one:v2", one)
	reg.push(t, "two:v1", hostImage(t, base, layerOf(t, file("two", "2"))))
	s := openStore(t, Config{})
	img := pulled(t, s, reg.host+"/one:v1")
	pulled(t, s, reg.host+"/one:v2")
	pulled(t, s, reg.host+"/two:v1")
	used := func(string) bool { return true }
	unused := func(string) bool { return false }
	layers := func() int {
		dirs, _ := os.ReadDir(s.path("layers"))
		return len(dirs)
	}
	if err := s.Remove("nope", unused); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if err := s.Remove(reg.host+"/one:v2", used); err != nil || layers() != 3 {
		t.Errorf("one of two names: %v, %d layers", err, layers())
	}
	for _, ref := range []string{reg.host + "/one:v1", img.ID} {
		if err := s.Remove(ref, used); !errors.Is(err, ErrInUse) {
			t.Errorf("%s: got %v, want ErrInUse", ref, err)
		}
	}
	if _, err := s.Get(reg.host + "/one:v1"); err != nil {
		t.Errorf("an image in use lost its name: %v", err)
	}
	if err := s.Remove(reg.host+"/one:v1", unused); err != nil || layers() != 2 {
		t.Errorf("last name: %v, %d layers", err, layers())
	}
	all, err := s.List()
	if err != nil || len(all) != 1 || all[0].Names[0] != reg.host+"/two:v1" {
		t.Errorf("left: %+v, %v", all, err)
	}
	if got := listing(t, mounted(t, all[0])); got != "base b\ntwo 2\n" {
		t.Errorf("the other image: %q", got)
	}
	if err := s.Remove(all[0].ID, unused); err != nil || layers() != 0 {
		t.Errorf("by id: %v, %d layers", err, layers())
	}
}

// A pull that found a layer present must still find it when it records its image.
func TestRemoveSparesLayersOfPullsUnderWay(t *testing.T) {
	needRoot(t)
	reg := newRegistry(t)
	base, slow := layerOf(t, file("base", "b")), layerOf(t, file("slow", "s"))
	reg.push(t, "one", hostImage(t, base))
	reg.push(t, "two", hostImage(t, base, slow))
	digest, _ := slow.Digest()
	s := openStore(t, Config{})
	pulled(t, s, reg.host+"/one")
	reg.spoil = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, digest.String()) {
			if err := s.Remove(reg.host+"/one", nil); err != nil {
				t.Error(err)
			}
		}
		return false
	}
	if got := listing(t, mounted(t, pulled(t, s, reg.host+"/two"))); got != "base b\nslow s\n" {
		t.Errorf("got %q", got)
	}
}

func TestLastUseSurvivesTheDaemon(t *testing.T) {
	needRoot(t)
	reg := newRegistry(t)
	reg.push(t, "x", hostImage(t, layerOf(t, file("a", "a"))))
	dir := filepath.Join(t.TempDir(), "oci")
	s := openStore(t, Config{Dir: dir})
	img := pulled(t, s, reg.host+"/x")
	old := time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	if err := os.Chtimes(s.recordFile(img.ID), old, old); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openStore(t, Config{Dir: dir})
	if all, _ := s.List(); !all[0].LastUsed.Equal(old) {
		t.Errorf("got %v, want %v", all[0].LastUsed, old)
	}
	if _, err := s.Get(img.ID); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openStore(t, Config{Dir: dir})
	if all, _ := s.List(); time.Since(all[0].LastUsed) > time.Hour {
		t.Errorf("use was not kept: %v", all[0].LastUsed)
	}
}

func TestAbandonedDownloadsAreSwept(t *testing.T) {
	s := openStore(t, Config{})
	old := time.Now().Add(-2 * abandonedAfter)
	for _, name := range []string{"old", "new"} {
		if err := os.WriteFile(s.path("downloads", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(s.path("downloads", "old"), old, old); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openStore(t, Config{Dir: s.dir})
	if left, _ := os.ReadDir(s.path("downloads")); len(left) != 1 || left[0].Name() != "new" {
		t.Errorf("left: %v", left)
	}
}

const killedChild = "SHOAL_TEST_PULL_UNTIL_KILLED"

// TestKilledAtAnyMoment pulls in a child process that is killed at random moments. After each kill the store opens, and
// every image in it is whole.
func TestKilledAtAnyMoment(t *testing.T) {
	needRoot(t)
	if os.Getenv(killedChild) != "" {
		pullForever(t)
		return
	}
	reg := newRegistry(t)
	base := layerOf(t, directory("d", 0o755), bigFile(t, "d/base", 300_000))
	for i := range 3 {
		reg.push(t, fmt.Sprintf("x:%d", i), hostImage(t, base, layerOf(t, bigFile(t, "d/own", 200_000), file("d/name", fmt.Sprint(i)))))
	}
	dir := filepath.Join(t.TempDir(), "oci")
	begun := time.Now()
	pulled(t, openStore(t, Config{}), reg.host+"/x:0")
	window := 30*time.Millisecond + 3*time.Since(begun)
	r := rand.New(rand.NewPCG(1, 1))
	whole := 0
	for range 25 {
		child := exec.Command(os.Args[0], "-test.run=^TestKilledAtAnyMoment$")
		child.Env = append(os.Environ(), killedChild+"="+dir+" "+reg.host)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		io.ReadFull(out, make([]byte, 3)) // "go\n": the store is open, the pulls begin
		<-time.After(time.Duration(r.Int64N(int64(window))))
		child.Process.Kill()
		child.Wait()
		whole += checkWhole(t, dir)
	}
	if whole == 0 {
		t.Error("no child got as far as an image: nothing was tested")
	}
}

// pullForever pulls and removes until it is killed.
func pullForever(t *testing.T) {
	dir, host, _ := strings.Cut(os.Getenv(killedChild), " ")
	s, err := Open(Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.remote.transport(host); err != nil { // reads the system's certificates, which takes long the first time
		t.Fatal(err)
	}
	fmt.Println("go")
	for i := 0; ; i++ {
		if _, err := s.Pull(t.Context(), fmt.Sprintf("%s/x:%d", host, i%3), PullOptions{}); err != nil {
			t.Fatal(err)
		}
		if i%4 == 3 {
			if err := s.Remove(fmt.Sprintf("%s/x:%d", host, (i+1)%3), nil); err != nil && !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
		}
	}
}

func checkWhole(t *testing.T, dir string) (images int) {
	t.Helper()
	s, err := Open(Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range all {
		var names []string
		for _, l := range img.Layers {
			for line := range strings.Lines(listing(t, l)) {
				name, content, _ := strings.Cut(line, " ")
				if len(content) > 1000 {
					content = fmt.Sprint(len(content) > 200_000)
				}
				names = append(names, name+"="+strings.TrimSpace(content))
			}
		}
		if len(img.Layers) != 2 || len(names) < 4 {
			t.Errorf("half an image: %s %v", img.Names, names)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "tmp")); len(left) != 0 {
		t.Errorf("left in tmp: %v", left)
	}
	return len(all)
}

func TestStoreIsPrivate(t *testing.T) {
	s := openStore(t, Config{})
	var st unix.Stat_t
	if err := unix.Stat(s.dir, &st); err != nil || st.Mode&0o077 != 0 {
		t.Errorf("mode %o, %v: local users must not reach set-uid files of images", st.Mode, err)
	}
}
