package credential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/kubernetes/pkg/credentialprovider"
)

// dockerConfig is what is used of Docker's config.json
// (https://docs.docker.com/reference/cli/docker/login).
type dockerConfig struct {
	Auths       credentialprovider.DockerConfig `json:"auths"`
	CredHelpers map[string]string               `json:"credHelpers"` // registry -> helper
	CredsStore  string                          `json:"credsStore"`  // the helper of all others
}

const (
	mostConfig  = 10 << 20 // bytes, as credentialprovider's
	mostAnswer  = 1 << 20
	mostWords   = 300 // bytes of a program's stderr in a log
	execTimeout = time.Minute
)

func (s *Source) fromFile(ctx context.Context, file, repo string) ([]Login, error) {
	c, err := s.readFile(file)
	if err != nil {
		return nil, err
	}
	var keyring credentialprovider.BasicDockerKeyring
	keyring.Add(nil, c.Auths)
	found, _ := keyring.Lookup(repo)
	var logins []Login
	for _, f := range found {
		if f.Username != "" || f.Password != "" { // beside a helper, auths has empty entries
			logins = append(logins, Login{Username: f.Username, Password: f.Password})
		}
	}
	if name, server := c.helper(repo); name != "" {
		login, ok, err := askHelper(ctx, name, server)
		if err != nil {
			return logins, err
		}
		if ok {
			logins = slices.Insert(logins, 0, login)
		}
	}
	return logins, nil
}

func (s *Source) readFile(file string) (dockerConfig, error) {
	var c dockerConfig
	f, err := os.Open(file)
	if err != nil {
		return c, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return c, err
	}
	if !info.Mode().IsRegular() {
		return c, errors.New("it is no regular file")
	}
	s.warnIfReadable(file, info)
	data, err := io.ReadAll(io.LimitReader(f, mostConfig+1))
	if err != nil {
		return c, err
	}
	if len(data) > mostConfig {
		return c, fmt.Errorf("it is larger than %d bytes", mostConfig)
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return dockerConfig{}, withoutContent(err)
	}
	return c, nil
}

// withoutContent says where JSON went wrong and not what is there, which may be
// a password.
func withoutContent(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not valid JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("wrong type at byte %d: want {\"auths\": {HOST: {\"auth\": BASE64}}}", kind.Offset)
	}
	return errors.New("want JSON of the form {\"auths\": {HOST: {\"auth\": BASE64 of USER:PASSWORD}}}")
}

// dockerHub is how Docker's files and helpers call docker.io.
const dockerHub = "https://index.docker.io/v1/"

// helper is the program to ask about a repository, and what to call its
// registry: the most specific of credHelpers, else credsStore. "" is none.
func (c dockerConfig) helper(repo string) (name, server string) {
	host, _, _ := strings.Cut(repo, "/")
	server = host
	if host == "docker.io" {
		server = dockerHub
	}
	keys := slices.Sorted(maps.Keys(c.CredHelpers))
	slices.Reverse(keys) // as the keyring sorts: longer paths before their prefixes
	for _, key := range keys {
		glob := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
		glob = strings.TrimSuffix(strings.TrimSuffix(glob, "/"), "/v1")
		if glob == "index.docker.io" || glob == "registry-1.docker.io" {
			glob = "docker.io"
		}
		if ok, err := credentialprovider.URLsMatchStr(glob, repo); err == nil && ok {
			return c.CredHelpers[key], server
		}
	}
	return c.CredsStore, server
}

// helperName is what a helper may be called: it becomes part of a program's name.
var helperName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// notFoundWords is how helpers say that they have no login
// (docker-credential-helpers, credentials/error.go).
const notFoundWords = "credentials not found"

// askHelper asks a Docker credential helper for its login at a server
// (https://github.com/docker/docker-credential-helpers#development).
func askHelper(ctx context.Context, name, server string) (login Login, ok bool, err error) {
	if !helperName.MatchString(name) {
		return login, false, fmt.Errorf("credential helper %q: want a name such as \"pass\", for the program docker-credential-pass", name)
	}
	program := "docker-credential-" + name
	out, err := run(ctx, exec.Command(program, "get"), []byte(server))
	if err != nil {
		if bytes.Contains(out, []byte(notFoundWords)) {
			return login, false, nil
		}
		return login, false, fmt.Errorf("%s get: %w", program, err)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return login, false, fmt.Errorf("%s get: its answer is no JSON with Username and Secret", program)
	}
	if answer.Username == "<token>" {
		return Login{IdentityToken: answer.Secret}, true, nil
	}
	return Login{Username: answer.Username, Password: answer.Secret}, true, nil
}

// run gives a program's output. The error has what it said on stderr, in short,
// and never its output.
func run(ctx context.Context, cmd *exec.Cmd, input []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	path := cmd.Path
	args := cmd.Args[1:]
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	bounded := exec.CommandContext(ctx, path, args...)
	bounded.Env = cmd.Env
	bounded.WaitDelay = time.Second // a child of it may hold its pipes
	var out, words clipped
	out.most, words.most = mostAnswer, mostWords
	bounded.Stdin, bounded.Stdout, bounded.Stderr = bytes.NewReader(input), &out, &words
	err := bounded.Run()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("no answer: %w", context.Cause(ctx))
	case err != nil && words.Len() > 0:
		return out.Bytes(), fmt.Errorf("%w: %s", err, bytes.TrimSpace(words.Bytes()))
	case err != nil:
		return out.Bytes(), err
	case out.cut:
		return nil, fmt.Errorf("its answer is larger than %d bytes", mostAnswer)
	}
	return out.Bytes(), nil
}

// clipped keeps the beginning of what is written to it.
type clipped struct {
	bytes.Buffer
	most int
	cut  bool
}

func (c *clipped) Write(p []byte) (int, error) {
	room := c.most - c.Len()
	if len(p) > room {
		c.cut = true
		c.Buffer.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return c.Buffer.Write(p)
}
