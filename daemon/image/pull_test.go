package image

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"
)

func bigFile(t testing.TB, name string, size int) entry {
	t.Helper()
	b := make([]byte, size)
	rand.Read(b)
	return file(name, string(b))
}

func pulled(t testing.TB, s *Store, ref string) Image {
	t.Helper()
	img, err := s.Pull(t.Context(), ref, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestPulledImageIsCompleteAndFoundAgain(t *testing.T) {
	needRoot(t)
	reg := newRegistry(t)
	pushed := hostImage(t, layerOf(t, file("a", "one")), layerOf(t, file("b", "two"), file("a", "three")))
	reg.push(t, "app/web:v1", pushed)
	dir := filepath.Join(t.TempDir(), "oci")
	s := openStore(t, Config{Dir: dir})
	ref := reg.host + "/app/web:v1"

	img := pulled(t, s, ref)
	id, _ := pushed.ConfigName()
	digest, _ := pushed.Digest()
	if img.ID != id.String() || fmt.Sprint(img.Names) != "["+ref+"]" || fmt.Sprint(img.Digests) != "["+reg.host+"/app/web@"+digest.String()+"]" {
		t.Errorf("got %s %s %s", img.ID, img.Names, img.Digests)
	}
	if img.Size != int64(len("one")+len("two")+len("three")) {
		t.Errorf("size %d", img.Size)
	}
	if img.Config.User != "7" || img.Config.Cmd[0] != "/bin/true" {
		t.Errorf("config %+v", img.Config)
	}
	if got := listing(t, mounted(t, img)); got != "a three\nb two\n" {
		t.Errorf("got %s", got)
	}
	s.Close()
	s = openStore(t, Config{Dir: dir})
	for _, ref := range []string{ref, reg.host + "/app/web@" + digest.String(), id.String(), ref + "@" + digest.String()} {
		again, err := s.Get(ref)
		if err != nil || again.ID != img.ID || fmt.Sprint(again.Layers) != fmt.Sprint(img.Layers) {
			t.Errorf("Get(%s) after reopening: %+v, %v", ref, again, err)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "downloads")); len(left) != 0 {
		t.Errorf("downloads left: %v", left)
	}
	if _, err := s.Get("nginx"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestSharedLayersAreDownloadedOnce(t *testing.T) {
	needRoot(t)
	reg := newRegistry(t)
	base := layerOf(t, file("base", "b"))
	reg.push(t, "a", hostImage(t, base, layerOf(t, file("a", "a"))))
	reg.push(t, "b", hostImage(t, base, layerOf(t, file("b", "b"))))
	var mu sync.Mutex
	gets := map[string]int{}
	reg.spoil = func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			gets[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]++
		}
		return false
	}
	s := openStore(t, Config{})
	var work errgroup.Group
	for i := range 12 {
		work.Go(func() error {
			_, err := s.Pull(t.Context(), reg.host+"/"+[]string{"a", "b"}[i%2], PullOptions{})
			return err
		})
	}
	if err := work.Wait(); err != nil {
		t.Fatal(err)
	}
	digest, _ := base.Digest()
	if gets[digest.String()] != 1 {
		t.Errorf("the shared layer was asked for %d times", gets[digest.String()])
	}
	if layers, _ := os.ReadDir(s.path("layers")); len(layers) != 3 {
		t.Errorf("%d layers unpacked, want 3", len(layers))
	}
	if left, _ := os.ReadDir(s.path("tmp")); len(left) != 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

// A broken connection costs only what had not come yet, within a pull and across runs of the daemon.
func TestInterruptedDownloadResumes(t *testing.T) {
	needRoot(t)
	reg := newRegistry(t)
	const size = 1 << 20
	layer := layerOf(t, bigFile(t, "big", size))
	reg.push(t, "big", hostImage(t, layer))
	digest, _ := layer.Digest()
	total, _ := layer.Size()
	content, _ := layer.Compressed()
	blob, _ := io.ReadAll(content)

	var ranges []string
	// Two connections end early, properly closed, so that what was sent arrives.
	cut := func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, digest.String()) {
			return false
		}
		ranges = append(ranges, r.Header.Get("Range"))
		from := 0
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return true
		}
		defer conn.Close()
		status, end := "200 OK", len(blob)
		if from > 0 {
			status = "206 Partial Content"
		}
		if len(ranges) <= 2 {
			end = from + size/4
		}
		fmt.Fprintf(conn, "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n",
			status, len(blob)-from, from, len(blob)-1, len(blob))
		conn.Write(blob[from:end])
		conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, conn) // a close right away could overtake the data as a reset
		return true
	}
	t.Run("within a pull", func(t *testing.T) {
		ranges, reg.spoil = nil, cut
		pulled(t, openStore(t, Config{}), reg.host+"/big")
		want := fmt.Sprintf("[ bytes=%d- bytes=%d-]", size/4, size/2)
		if fmt.Sprint(ranges) != want {
			t.Errorf("got ranges %q, want %s", ranges, want)
		}
	})
	t.Run("by the next daemon", func(t *testing.T) {
		ranges, reg.spoil = nil, cut
		dir := filepath.Join(t.TempDir(), "oci")
		s := openStore(t, Config{Dir: dir})
		ctx, cancel := context.WithCancel(t.Context())
		_, err := s.Pull(ctx, reg.host+"/big", PullOptions{Progress: func(p Progress) {
			if p.Done == size/4 {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		s.Close()
		ranges = []string{"", ""}
		pulled(t, openStore(t, Config{Dir: dir}), reg.host+"/big")
		if want := fmt.Sprintf("[  bytes=%d-]", size/4); fmt.Sprint(ranges) != want {
			t.Errorf("got ranges %q, want %s", ranges, want)
		}
	})
	t.Run("damaged bytes are fetched again", func(t *testing.T) {
		reg.spoil = nil
		s := openStore(t, Config{})
		if err := os.WriteFile(s.downloadFile(digest), make([]byte, total), 0o600); err != nil {
			t.Fatal(err)
		}
		pulled(t, s, reg.host+"/big")
	})
	t.Run("a registry without ranges", func(t *testing.T) {
		reg.spoil = func(_ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false }
		s := openStore(t, Config{})
		if err := os.WriteFile(s.downloadFile(digest), blob[:total/2], 0o600); err != nil {
			t.Fatal(err)
		}
		pulled(t, s, reg.host+"/big")
	})
}

func TestHostileRegistries(t *testing.T) {
	needRoot(t)
	layer := layerOf(t, bigFile(t, "x", 100_000))
	digest, _ := layer.Digest()
	img := hostImage(t, layer)
	manifest, _ := img.RawManifest()
	manifestDigest, _ := img.Digest()
	small := strings.Replace(string(manifest), `"layers":[`, `"layers":[{"mediaType":"x+encrypted","size":1,"digest":"`+digest.String()+`"},`, 1)
	tests := map[string]struct {
		ref   string
		spoil func(w http.ResponseWriter, r *http.Request) bool
	}{
		"endless manifest": {"x", func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/manifests/") && endless(w)
		}},
		"manifest with another digest": {"x@" + manifestDigest.String(), func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/manifests/") && answer(w, string(manifest)+" ")
		}},
		"endless layer": {"x", func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, digest.String()) && endless(w)
		}},
		"layer with another digest": {"x", func(w http.ResponseWriter, r *http.Request) bool {
			size, _ := layer.Size()
			return strings.HasSuffix(r.URL.Path, digest.String()) && answer(w, strings.Repeat("x", int(size)))
		}},
		"encrypted layer": {"x", func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/manifests/") && answer(w, small)
		}},
		"digest that is a path": {"x", func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/manifests/") && answer(w, strings.ReplaceAll(string(manifest), digest.Hex, "../../../../etc/passwd"))
		}},
		"index of itself": {"x", func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/manifests/") && answer(w, `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","size":3,"digest":"`+manifestDigest.String()+`"}]}`)
		}},
		"not JSON": {"x", func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/manifests/") && answer(w, "<html>")
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			reg := newRegistry(t)
			reg.push(t, "x", img)
			reg.spoil = tc.spoil
			s := openStore(t, Config{})
			_, err := s.Pull(t.Context(), reg.host+"/"+tc.ref, PullOptions{})
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v, want ErrInvalid", err)
			}
			if err == nil || !strings.Contains(err.Error(), reg.host+"/x") {
				t.Errorf("the image is not named: %v", err)
			}
			for _, sub := range []string{"images", "layers", "downloads", "tmp"} {
				if left, _ := os.ReadDir(s.path(sub)); len(left) != 0 {
					t.Errorf("left in %s: %v", sub, left)
				}
			}
		})
	}
}

func answer(w http.ResponseWriter, body string) bool {
	io.WriteString(w, body)
	return true
}

func endless(w http.ResponseWriter) bool {
	io.Copy(w, zeroes{})
	return true
}

func TestLayerThatIsNotWhatTheConfigSays(t *testing.T) {
	needRoot(t)
	reg := newRegistry(t)
	img := hostImage(t, layerOf(t, file("a", "a")))
	cfg, _ := img.ConfigFile()
	cfg = cfg.DeepCopy()
	cfg.RootFS.DiffIDs[0] = hashOf([]byte("something else"))
	lying, err := mutate.ConfigFile(img, cfg)
	if err != nil {
		t.Fatal(err)
	}
	reg.push(t, "x", lying)
	s := openStore(t, Config{})
	if _, err := s.Pull(t.Context(), reg.host+"/x", PullOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	if left, _ := os.ReadDir(s.path("layers")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestPlatformIsChosenOrNamed(t *testing.T) {
	needRoot(t)
	reg := newRegistry(t)
	other := v1.Platform{OS: "linux", Architecture: "s390x"}
	foreign := imageFor(t, other, layerOf(t, file("arch", "s390x")))
	native := hostImage(t, layerOf(t, file("arch", "native")))
	host := HostPlatform()
	reg.push(t, "both", mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: foreign, Descriptor: v1.Descriptor{Platform: &other}},
		mutate.IndexAddendum{Add: native, Descriptor: v1.Descriptor{Platform: &host}}))
	reg.push(t, "foreign-index", mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: foreign, Descriptor: v1.Descriptor{Platform: &other}}))
	reg.push(t, "foreign", foreign)
	s := openStore(t, Config{})

	img := pulled(t, s, reg.host+"/both")
	if got := listing(t, img.Layers[0]); got != "arch native\n" {
		t.Errorf("got %q", got)
	}
	if len(img.Digests) != 2 {
		t.Errorf("digests %v: want the index's and the manifest's", img.Digests)
	}
	for _, repo := range []string{"foreign-index", "foreign"} {
		_, err := s.Pull(t.Context(), reg.host+"/"+repo, PullOptions{})
		if !errors.Is(err, ErrPlatform) || !strings.Contains(err.Error(), "it is for linux/s390x only, this host is "+host.String()) {
			t.Errorf("%s: got %v", repo, err)
		}
	}
	img, err := s.Pull(t.Context(), reg.host+"/both", PullOptions{Platform: other})
	if err != nil || listing(t, img.Layers[0]) != "arch s390x\n" {
		t.Errorf("asked for s390x: %v", err)
	}
}

func TestVariantsThatRun(t *testing.T) {
	rank := func(have, want string) int {
		p, _ := v1.ParsePlatform(have)
		q, _ := v1.ParsePlatform(want)
		return suits(*p, *q)
	}
	for _, tc := range []struct{ better, worse, want string }{
		{"linux/amd64", "linux/amd64/v1", "linux/amd64"},
		{"linux/amd64/v1", "linux/amd64/v3", "linux/amd64"},
		{"linux/arm64/v8", "linux/arm64", "linux/arm64"},
		{"linux/arm/v7", "linux/arm/v6", "linux/arm"},
		{"linux/amd64/v3", "linux/amd64", "linux/amd64/v3"},
		{"linux/amd64", "windows/amd64", "linux/amd64"},
	} {
		if rank(tc.better, tc.want) <= rank(tc.worse, tc.want) {
			t.Errorf("on %s: %s ranks %d, %s ranks %d", tc.want, tc.better, rank(tc.better, tc.want), tc.worse, rank(tc.worse, tc.want))
		}
	}
	for _, bad := range []string{"linux/amd64/v3", "windows/amd64", "linux/arm64"} {
		if rank(bad, "linux/amd64") != 0 {
			t.Errorf("%s runs on linux/amd64", bad)
		}
	}
}

func TestMirrors(t *testing.T) {
	needRoot(t)
	lan := newRegistry(t)
	lan.push(t, "library/nginx", hostImage(t, layerOf(t, file("from", "lan"))))
	lan.push(t, "cache/hub/library/nginx", hostImage(t, layerOf(t, file("from", "cache"))))
	blobless := newRegistry(t)
	blobless.push(t, "library/nginx", hostImage(t, layerOf(t, file("from", "lan"))))
	blobless.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") || r.Method != http.MethodGet {
			return false
		}
		if n := atomic.AddInt32(&bloblessGets, 1); n == 1 { // the configuration
			return false
		}
		http.NotFound(w, r)
		return true
	}
	tests := map[string]struct {
		mirrors []string
		want    string
	}{
		"plain":                 {[]string{lan.host}, "from lan\n"},
		"with a prefix":         {[]string{lan.host + "/cache/hub"}, "from cache\n"},
		"first lacks the image": {[]string{lan.host + "/nothing/here", lan.host}, "from lan\n"},
		"first is down":         {[]string{"127.0.0.1:1", lan.host}, "from lan\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, Config{Registries: []Registry{{Host: "docker.io", Mirrors: tc.mirrors}}})
			img := pulled(t, s, "nginx")
			if got := listing(t, img.Layers[0]); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if fmt.Sprint(img.Names) != "[docker.io/library/nginx:latest]" {
				t.Errorf("names %v", img.Names)
			}
		})
	}
	t.Run("layer missing in the mirror comes from the registry", func(t *testing.T) {
		s := openStore(t, Config{Registries: []Registry{{Host: lan.host, Mirrors: []string{blobless.host}}}})
		img := pulled(t, s, lan.host+"/library/nginx")
		if got := listing(t, img.Layers[0]); got != "from lan\n" {
			t.Errorf("got %q", got)
		}
		if atomic.LoadInt32(&bloblessGets) < 2 {
			t.Error("the mirror was not asked for the layer")
		}
	})
}

var bloblessGets int32

// withPassword lets only user "u" with password "p" in.
func withPassword(reg *testRegistry) {
	reg.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		if u, p, ok := r.BasicAuth(); ok && u == "u" && p == "p" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

func dockerConfig(t testing.TB, host, user, password string) []byte {
	t.Helper()
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	return fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, auth)
}

func TestPrivateImageNeedsTheRightSecret(t *testing.T) {
	needRoot(t)
	reg := newRegistry(t)
	reg.push(t, "team/x", hostImage(t, layerOf(t, file("a", "a"))))
	withPassword(reg)
	creds := func(hosts ...string) *Credentials {
		c := &Credentials{}
		for _, h := range hosts {
			host, password, _ := strings.Cut(h, "=")
			if err := c.AddDockerConfigJSON(dockerConfig(t, host, "u", password)); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	tests := map[string]struct {
		creds *Credentials
		ok    bool
	}{
		"none":                         {nil, false},
		"wrong password":               {creds(reg.host + "=wrong"), false},
		"another host":                 {creds("example.com=p"), false},
		"another path":                 {creds(reg.host + "/other=p"), false},
		"right":                        {creds(reg.host + "=p"), true},
		"right path":                   {creds(reg.host + "/team=p"), true},
		"scheme and v2 in the key":     {creds("http://" + reg.host + "/v2/=p"), true},
		"wrong and right: tries both":  {creds(reg.host+"/team=wrong", reg.host+"=p"), true},
		"glob of the host":             {creds("127.*.0.*:" + reg.host[strings.Index(reg.host, ":")+1:] + "=p"), true},
		"glob of another port's host":  {creds("127.0.0.*:1=p"), false},
		"glob with too few components": {creds("*:" + reg.host[strings.Index(reg.host, ":")+1:] + "=p"), false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := openStore(t, Config{}).Pull(t.Context(), reg.host+"/team/x", PullOptions{Credentials: tc.creds})
			if tc.ok && err != nil || !tc.ok && !errors.Is(err, ErrUnauthorized) {
				t.Errorf("got %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "wrong:") || strings.Contains(err.Error(), base64.StdEncoding.EncodeToString([]byte("u:p")))) {
				t.Errorf("secret in %v", err)
			}
		})
	}
}

func TestMirrorGetsNoCredentialsOfTheRegistry(t *testing.T) {
	needRoot(t)
	mirror := newRegistry(t)
	mirror.push(t, "library/nginx", hostImage(t, layerOf(t, file("a", "a"))))
	asked := false
	mirror.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("the mirror got %q", r.Header.Get("Authorization"))
		}
		asked = true
		return false
	}
	c := &Credentials{}
	if err := c.AddDockerConfigJSON(dockerConfig(t, "https://index.docker.io/v1/", "u", "p")); err != nil {
		t.Fatal(err)
	}
	if got := len(c.attempts("docker.io/library/nginx")); got != 1 {
		t.Fatalf("%d credentials for docker.io", got)
	}
	s := openStore(t, Config{Registries: []Registry{{Host: "docker.io", Mirrors: []string{mirror.host}}}})
	if _, err := s.Pull(t.Context(), "nginx", PullOptions{Credentials: c}); err != nil {
		t.Fatal(err)
	}
	if !asked {
		t.Error("the mirror was not asked")
	}
}

func TestBadSecretsAreReportedWithoutTheirContent(t *testing.T) {
	for _, data := range []string{`{"auths":{"h":{"auth":"c2VjcmV0"}}}`, `{"auths":["hunter2"]}`, `{hunter2`, `{"auths":{"h":{"auth":"hunter2!"}}}`} {
		err := new(Credentials).AddDockerConfigJSON([]byte(data))
		if err == nil {
			t.Errorf("%s was taken", data)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "secret\n") {
			t.Errorf("secret in %v", err)
		}
	}
	c := &Credentials{}
	if err := c.AddDockerConfig([]byte(`{"example.com":{"username":"u","password":"p"}}`)); err != nil {
		t.Fatal(err)
	}
	if got := len(c.attempts("example.com/x")); got != 1 {
		t.Errorf("dockercfg: %d credentials", got)
	}
}

func TestRegistryErrorsHaveAKindAndACure(t *testing.T) {
	reg := newRegistry(t)
	tlsServer := httptest.NewTLSServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, 0))))
	defer tlsServer.Close()
	// The server's complaints about clients that do not trust it would clutter the output.
	tlsServer.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s := openStore(t, Config{})
	tests := map[string]struct {
		ref  string
		kind error
		says string
	}{
		"no such image":  {reg.host + "/nope:v9", ErrNotInRegistry, "check the name and the tag"},
		"down":           {"127.0.0.1:1/x", ErrUnreachable, "connection refused"},
		"no such host":   {"registry.invalid/x", ErrUnreachable, "registry.invalid"},
		"unknown CA":     {strings.TrimPrefix(tlsServer.URL, "https://") + "/x", ErrTLS, "ca_file"},
		"invalid name":   {"Nginx", ErrInvalidName, "lowercase"},
		"sha512":         {"a@sha512:" + strings.Repeat("a", 128), ErrInvalidName, "sha256"},
		"two slashes":    {"rootfs://srv", ErrInvalidName, "three slashes"},
		"no such tree":   {"rootfs:///nonexistent", ErrNotFound, "/nonexistent"},
		"file, not tree": {"rootfs:///etc/passwd", ErrInvalid, "not a directory"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := s.Pull(t.Context(), tc.ref, PullOptions{})
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), strings.Split(tc.ref, "@")[0]) {
				t.Errorf("got %v, want %v that says %q", err, tc.kind, tc.says)
			}
		})
	}
}

func TestCAFile(t *testing.T) {
	needRoot(t)
	server := httptest.NewTLSServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "https://")
	pushTLS(t, server, host+"/x")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pemOf(server), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, Config{Registries: []Registry{{Host: host, CAFile: ca}}})
	pulled(t, s, host+"/x")
	if err := os.WriteFile(ca, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, Config{Registries: []Registry{{Host: host, CAFile: ca}}})
	if _, err := s.Pull(t.Context(), host+"/x", PullOptions{}); err == nil || !strings.Contains(err.Error(), "no certificate in PEM form") {
		t.Errorf("got %v", err)
	}
}

func TestPlainHTTPOnlyWhereAllowed(t *testing.T) {
	needRoot(t)
	reg := newRegistry(t)
	reg.push(t, "x", hostImage(t, layerOf(t, file("a", "a"))))
	// A name that is not loopback to the guard, and that a proxy-free dialer reaches: the guard is asked by name.
	host := strings.Replace(reg.host, "127.0.0.1", "registry.test", 1)
	for _, allowed := range []bool{false, true} {
		s := openStore(t, Config{Registries: []Registry{{Host: host, PlainHTTP: allowed}}})
		rt, err := s.remote.transport(host)
		if err != nil {
			t.Fatal(err)
		}
		rt.(*guard).inner.(*http.Transport).DialContext = dialInstead(reg.host)
		_, err = s.Pull(t.Context(), host+"/x", PullOptions{})
		if allowed && err != nil {
			t.Errorf("allowed: %v", err)
		}
		if !allowed && (!errors.Is(err, ErrTLS) || !strings.Contains(err.Error(), "plain_http = true")) {
			t.Errorf("not allowed: got %v", err)
		}
	}
	g := &guard{inner: http.DefaultTransport}
	req := httptest.NewRequest(http.MethodGet, "http://10.0.0.1/v2/", nil)
	if _, err := g.RoundTrip(req); !errors.Is(err, errPlainHTTP) {
		t.Errorf("private address: got %v", err)
	}
}

func TestSignedURLsStayOutOfErrors(t *testing.T) {
	needRoot(t)
	reg := newRegistry(t)
	layer := layerOf(t, file("a", "a"))
	reg.push(t, "x", hostImage(t, layer))
	digest, _ := layer.Digest()
	reg.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, digest.String()) {
			http.Redirect(w, r, "http://127.0.0.1:1/blob?X-Amz-Signature=hunter2", http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	_, err := openStore(t, Config{}).Pull(t.Context(), reg.host+"/x", PullOptions{})
	if !errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestStalledRegistryIsGivenUpAndResumed(t *testing.T) {
	needRoot(t)
	reg := newRegistry(t)
	layer := layerOf(t, bigFile(t, "x", 300_000))
	reg.push(t, "x", hostImage(t, layer))
	digest, _ := layer.Digest()
	var asked atomic.Int32
	reg.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, digest.String()) || asked.Add(1) > 1 {
			return false
		}
		content, _ := layer.Compressed()
		io.CopyN(w, content, 1000)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	s := openStore(t, Config{})
	s.stallAfter = 20 * time.Millisecond
	pulled(t, s, reg.host+"/x")
	if asked.Load() < 2 {
		t.Error("not asked again")
	}
}

func TestFullDiskIsSaidBeforeTheDownload(t *testing.T) {
	reg := newRegistry(t)
	layer := layerOf(t, bigFile(t, "x", 30<<20))
	reg.push(t, "x", hostImage(t, layer))
	digest, _ := layer.Digest()
	reg.spoil = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, digest.String()) {
			t.Error("the layer was asked for")
		}
		return false
	}
	s := openStore(t, Config{Dir: smallDisk(t, 20<<20)})
	if _, err := s.Pull(t.Context(), reg.host+"/x", PullOptions{}); !errors.Is(err, ErrDiskFull) || !strings.Contains(err.Error(), "shoal image rm") {
		t.Errorf("got %v", err)
	}
	s.Close()
}

func TestProgressAddsUp(t *testing.T) {
	needRoot(t)
	reg := newRegistry(t)
	layer := layerOf(t, bigFile(t, "x", 3<<20))
	reg.push(t, "x", hostImage(t, layer))
	s := openStore(t, Config{})
	var phases []Phase
	var last Progress
	opt := PullOptions{Progress: func(p Progress) {
		if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
			phases = append(phases, p.Phase)
		}
		last = p
	}}
	for _, want := range []string{"[downloading unpacking present]", "[present]"} {
		phases = nil
		if _, err := s.Pull(t.Context(), reg.host+"/x", opt); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(phases) != want || last.Done != last.Total || last.Total < 3<<20 {
			t.Errorf("got %v, last %+v", phases, last)
		}
	}
}

// pushTLS pushes an image to a server with a certificate of its own.
func pushTLS(t testing.TB, server *httptest.Server, ref string) {
	t.Helper()
	r, err := parseRemote(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, hostImage(t, layerOf(t, file("a", "a"))), remote.WithTransport(server.Client().Transport)); err != nil {
		t.Fatal(err)
	}
}
