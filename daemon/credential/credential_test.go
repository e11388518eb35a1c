package credential

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// write makes a file below a fresh directory.
func write(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

// source opens c with a log that can be read and a clock that can be set.
func source(t *testing.T, c Config) (*Source, *bytes.Buffer, *time.Time) {
	t.Helper()
	var log bytes.Buffer
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	s, err := Open(c, func() time.Time { return now }, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s, &log, &now
}

func found(s *Source, repo string) string {
	var list []string
	for _, l := range s.Find(context.Background(), repo) {
		list = append(list, l.Username+":"+l.Password+l.IdentityToken)
	}
	return strings.Join(list, " ")
}

func TestLoginsOfAFileMatchAsTheKubeletsDo(t *testing.T) {
	// base64 of USER:secret
	entry := func(key, user string) string {
		return fmt.Sprintf(`%q: {"username": %q, "password": "secret"}`, key, user)
	}
	file := write(t, t.TempDir(), "config.json", `{"auths": {`+strings.Join([]string{
		entry("https://index.docker.io/v1/", "hub"), entry("*.example.org", "glob"), entry("r.example.org/team", "team"),
		entry("port.example.net:5000", "port"), `"coded.example.net": {"auth": "Y29kZWQ6c2VjcmV0"}`,
	}, ",")+`}}`, 0o600)
	s, log, _ := source(t, Config{Files: []string{filepath.Join(t.TempDir(), "none"), file}})
	for repo, want := range map[string]string{
		"docker.io/library/nginx":   "hub:secret",
		"r.example.org/team/app":    "team:secret glob:secret",
		"r.example.org/other":       "glob:secret",
		"port.example.net:5000/app": "port:secret",
		"port.example.net/app":      "",
		"coded.example.net/a/b":     "coded:secret",
		"example.org/app":           "",
	} {
		if got := found(s, repo); got != want {
			t.Errorf("%s: got %q, want %q", repo, got, want)
		}
	}
	if log.Len() > 0 {
		t.Errorf("log: %s", log)
	}
}

func TestHelpersAreAskedByStdinAndTheirSecretsStayOutOfTheLog(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	args := filepath.Join(dir, "args")
	helper := func(name, body string) { write(t, dir, "docker-credential-"+name, "#!/bin/sh\n"+body, 0o700) }
	helper("ok", `read server; echo "$@" "$server" >>`+args+`; echo '{"ServerURL":"x","Username":"u-'$server'","Secret":"hidden"}'`)
	helper("token", `echo '{"Username":"<token>","Secret":"refresh"}'`)
	helper("none", `echo "credentials not found in native keychain"; exit 1`)
	helper("bad", `echo "hidden"; echo "the store is locked" >&2; exit 1`)
	helper("odd", `echo hidden`)
	file := write(t, dir, "config.json", `{
		"auths": {"ok.example.org": {}},
		"credHelpers": {"ok.example.org": "ok", "index.docker.io": "ok", "*.token.example.org": "token", "bad.example.org": "bad",
			"odd.example.org": "odd", "path.example.org": "../../bin/sh", "gone.example.org": "gone"},
		"credsStore": "none"}`, 0o600)
	s, log, _ := source(t, Config{Files: []string{file}})
	for repo, want := range map[string]string{
		"ok.example.org/app":      "u-ok.example.org:hidden",
		"docker.io/library/app":   "u-https://index.docker.io/v1/:hidden",
		"a.token.example.org/app": "<token>:refresh",
		"elsewhere.example.org/a": "",
		"bad.example.org/a":       "",
		"odd.example.org/a":       "",
		"path.example.org/a":      "",
		"gone.example.org/a":      "",
	} {
		if got := strings.Replace(found(s, repo), ":refresh", "<token>:refresh", 1); got != want {
			t.Errorf("%s: got %q, want %q", repo, got, want)
		}
	}
	for _, want := range []string{"the store is locked", `credential helper \"../../bin/sh\"`, "docker-credential-gone", "no JSON"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %s:\n%s", want, log)
		}
	}
	said, err := os.ReadFile(args)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log.String(), "hidden") || strings.Contains(string(said), "hidden") {
		t.Errorf("a secret was told:\n%s%s", log, said)
	}
	if !strings.Contains(string(said), "get ok.example.org\n") {
		t.Errorf("the helper was called with %q", said)
	}
}

func TestABadFileOfLoginsIsSaidWithoutItsContent(t *testing.T) {
	for _, text := range []string{`{"auths": {"h": {"auth": "cGFzc3dvcmQ="}`, `{"auths": {"h": {"auth": "password"}}}`, `["password"]`} {
		file := write(t, t.TempDir(), "config.json", text, 0o644)
		s, log, _ := source(t, Config{Files: []string{file}})
		found(s, "h/app")
		found(s, "h/app")
		if n := strings.Count(log.String(), "everybody on this host"); n != 1 {
			t.Errorf("%d warnings of a file that everybody can read, want 1", n)
		}
		if !strings.Contains(log.String(), "can't use a file of registry logins") || strings.Contains(log.String(), "password") || strings.Contains(log.String(), "cGFz") {
			t.Errorf("%s: log: %s", text, log)
		}
	}
}

// plugins is a directory with a plugin that counts its runs and answers.
func plugins(t *testing.T, answer string) (c Config, runs func() int) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "cloud", "#!/bin/sh\ncat >>"+dir+"/requests; echo >>"+dir+"/requests\necho \"$1$HERE\" >"+dir+"/args\ncat <<E\n"+answer+"\nE\n", 0o700)
	config := write(t, dir, "providers.yaml", `
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: cloud
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  matchImages: ["*.cloud.example.org"]
  defaultCacheDuration: 10m
  args: [--region=x]
  env: [{name: HERE, value: "1"}]
`, 0o600)
	return Config{Providers: config, BinDir: dir}, func() int {
		data, _ := os.ReadFile(filepath.Join(dir, "requests"))
		return strings.Count(string(data), `"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1"`)
	}
}

func answer(key, duration string) string {
	return `{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"` + key + `"` + duration +
		`,"auth":{"*.cloud.example.org":{"username":"u","password":"secret"}}}`
}

func TestAPluginsAnswerIsKeptAsItSays(t *testing.T) {
	for _, test := range []struct {
		key, duration string
		want          [4]int // runs after: an image, it again, another of that registry, one of another registry
		after         int    // runs after five more minutes and the first image again
	}{
		{"Image", "", [4]int{1, 1, 2, 3}, 3},
		{"Registry", "", [4]int{1, 1, 1, 2}, 2},
		{"Global", "", [4]int{1, 1, 1, 1}, 1},
		{"Global", `,"cacheDuration":"4m"`, [4]int{1, 1, 1, 1}, 2},
		{"Global", `,"cacheDuration":"0s"`, [4]int{1, 2, 3, 4}, 5},
	} {
		c, runs := plugins(t, answer(test.key, test.duration))
		s, log, now := source(t, c)
		var got [4]int
		for i, repo := range []string{"a.cloud.example.org/x", "a.cloud.example.org/x", "a.cloud.example.org/y", "b.cloud.example.org/x"} {
			if l := found(s, repo); l != "u:secret" {
				t.Errorf("%s: got %q (%s)", repo, l, log)
			}
			got[i] = runs()
		}
		*now = now.Add(5 * time.Minute)
		found(s, "a.cloud.example.org/x")
		if after := runs(); got != test.want || after != test.after {
			t.Errorf("%s%s: %v, then %d runs, want %v, then %d", test.key, test.duration, got, after, test.want, test.after)
		}
		if l := found(s, "docker.io/library/x"); l != "" || runs() != test.after {
			t.Errorf("asked about an image that it is not for: %q", l)
		}
		if said, _ := os.ReadFile(filepath.Join(c.BinDir, "args")); string(said) != "--region=x1\n" {
			t.Errorf("args and environment: %q", said)
		}
	}
}

func TestAPluginThatAnswersNonsenseGivesNoLogin(t *testing.T) {
	for _, text := range []string{answer("Always", ""), "secret", strings.Replace(answer("Image", ""), "/v1", "/v2", 1), strings.Repeat("x", mostAnswer+1)} {
		c, _ := plugins(t, text)
		s, log, _ := source(t, c)
		if l := found(s, "a.cloud.example.org/x"); l != "" || log.Len() == 0 || strings.Contains(log.String(), "secret") {
			t.Errorf("%.40s: login %q, log %s", text, l, log)
		}
	}
}

func TestErrorsOfProvidersNameFileProviderAndField(t *testing.T) {
	head := "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n"
	item := func(name, version, match, rest string) string {
		return head + "- {name: " + name + ", apiVersion: credentialprovider.kubelet.k8s.io/" + version + ", matchImages: [" + match + "]" + rest + "}\n"
	}
	const keep = ", defaultCacheDuration: 1m"
	for _, test := range []struct{ text, want string }{
		{"kind: Pod\n", "want kind CredentialProviderConfig"},
		{head, "providers is empty"},
		{item("../sh", "v1", "a", keep), "without '/'"},
		{item("sh", "v2", "a", keep), "apiVersion"},
		{item("sh", "v1", "", keep), "matchImages: want at least one"},
		{item("sh", "v1", "a", ""), "defaultCacheDuration: required"},
		{item("sh", "v1", "a", ", defaultCacheDuration: -1m"), "must not be negative"},
		{item("gone", "v1", "a", keep), "its program"},
		{item("sh", "v1", "a", keep+", tokenAttributes: {cacheType: Token}"), "tokenAttributes"},
		{item("sh", "v1", "a", keep+", matchImage: [b]"), `unknown field "matchImage"`},
		{item("sh", "v1", "a", keep) + "- {name: sh, apiVersion: credentialprovider.kubelet.k8s.io/v1, matchImages: [a]" + keep + "}\n", "twice"},
	} {
		file := write(t, t.TempDir(), "providers.yaml", test.text, 0o600)
		_, err := Open(Config{Providers: file, BinDir: "/bin"}, time.Now, slog.Default())
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s\ngot  %v\nwant %s", test.text, err, test.want)
		}
	}
}
