package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	providerv1 "k8s.io/kubelet/pkg/apis/credentialprovider/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"
	"sigs.k8s.io/yaml"
)

// providers is a kubelet's CredentialProviderConfig
// (https://kubernetes.io/docs/reference/config-api/kubelet-config.v1).
type providers struct {
	metav1.TypeMeta `json:",inline"`
	Providers       []provider `json:"providers"`
}

type provider struct {
	Name                 string           `json:"name"` // of a program in the directory of plugins
	MatchImages          []string         `json:"matchImages"`
	DefaultCacheDuration *metav1.Duration `json:"defaultCacheDuration"`
	APIVersion           string           `json:"apiVersion"` // of request and answer
	Args                 []string         `json:"args"`
	Env                  []envVar         `json:"env"`
	TokenAttributes      any              `json:"tokenAttributes"`
}

type envVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// The versions of requests have the same fields as far as they are used here.
var requestVersions = []string{
	"credentialprovider.kubelet.k8s.io/v1", "credentialprovider.kubelet.k8s.io/v1beta1", "credentialprovider.kubelet.k8s.io/v1alpha1",
}

// configVersions are those of the file; all have the fields above.
var configVersions = []string{"kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1alpha1"}

func readProviders(file, binDir string) ([]*plugin, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read credential providers: %w", err)
	}
	var c providers
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if c.Kind != "CredentialProviderConfig" || !slices.Contains(configVersions, c.APIVersion) {
		return nil, fmt.Errorf("%s: it is %s %s: want kind CredentialProviderConfig of apiVersion %s", file, c.APIVersion, c.Kind, configVersions[0])
	}
	var plugins []*plugin
	var errs []error
	seen := make(map[string]bool)
	for i, p := range c.Providers {
		err := p.check(binDir)
		if err == nil && seen[p.Name] {
			err = errors.New("the name is used twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: providers[%d] (%q): %w", file, i, p.Name, err))
		}
		seen[p.Name] = true
		plugins = append(plugins, &plugin{config: p, program: filepath.Join(binDir, p.Name), cache: make(map[string]cached)})
	}
	if len(c.Providers) == 0 {
		errs = append(errs, fmt.Errorf("%s: providers is empty: want at least one", file))
	}
	return plugins, errors.Join(errs...)
}

// check is the kubelet's validateCredentialProviderConfig.
func (p provider) check(binDir string) error {
	switch {
	case p.Name == "" || p.Name == "." || p.Name == ".." || strings.ContainsAny(p.Name, "/ "):
		return errors.New("name: want the file name of a program, without '/' and spaces")
	case !slices.Contains(requestVersions, p.APIVersion):
		return fmt.Errorf("apiVersion %q: want one of %s", p.APIVersion, strings.Join(requestVersions, ", "))
	case len(p.MatchImages) == 0:
		return errors.New("matchImages: want at least one, such as \"*.dkr.ecr.*.amazonaws.com\"")
	case p.DefaultCacheDuration == nil:
		return errors.New("defaultCacheDuration: required, such as \"12h\", or \"0s\" to keep nothing")
	case p.DefaultCacheDuration.Duration < 0:
		return errors.New("defaultCacheDuration: must not be negative")
	case p.TokenAttributes != nil:
		return errors.New("tokenAttributes: service account tokens are not given to plugins by this version")
	}
	for _, m := range p.MatchImages {
		if _, err := credentialprovider.ParseSchemelessURL(m); err != nil {
			return fmt.Errorf("matchImages %q: %w", m, err)
		}
	}
	if _, err := exec.LookPath(filepath.Join(binDir, p.Name)); err != nil {
		return fmt.Errorf("its program: %w", err)
	}
	return nil
}

// plugin is one provider and what it said before.
type plugin struct {
	config  provider
	program string

	mu    sync.Mutex // held while the plugin runs: pulls at the same time ask once
	cache map[string]cached
}

type cached struct {
	logins  credentialprovider.DockerConfig
	expires time.Time
}

// find asks the plugin about a repository that it is for, or the cache.
func (p *plugin) find(ctx context.Context, repo string, now time.Time) ([]Login, error) {
	matches := func(glob string) bool {
		ok, err := credentialprovider.URLsMatchStr(glob, repo)
		return err == nil && ok
	}
	if !slices.ContainsFunc(p.config.MatchImages, matches) {
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, c := range p.cache {
		if !now.Before(c.expires) {
			delete(p.cache, key)
		}
	}
	for _, key := range cacheKeys(repo) {
		if c, ok := p.cache[key]; ok {
			return lookup(c.logins, repo), nil
		}
	}
	answer, err := p.ask(ctx, repo)
	if err != nil {
		return nil, err
	}
	logins := make(credentialprovider.DockerConfig, len(answer.Auth))
	for match, a := range answer.Auth {
		logins[match] = credentialprovider.DockerConfigEntry{Username: a.Username, Password: a.Password}
	}
	key, err := cacheKey(answer.CacheKeyType, repo)
	if err != nil {
		return nil, err
	}
	keep := p.config.DefaultCacheDuration.Duration
	if answer.CacheDuration != nil {
		keep = answer.CacheDuration.Duration
	}
	if keep > 0 {
		p.cache[key] = cached{logins, now.Add(keep)}
	}
	return lookup(logins, repo), nil
}

func lookup(logins credentialprovider.DockerConfig, repo string) []Login {
	var keyring credentialprovider.BasicDockerKeyring
	keyring.Add(nil, logins)
	found, _ := keyring.Lookup(repo)
	var list []Login
	for _, f := range found {
		list = append(list, Login{Username: f.Username, Password: f.Password})
	}
	return list
}

// globalKey is the key of what holds for every image: no repository is called so.
const globalKey = "<global>"

// cacheKeys are those under which an answer for a repository may be kept, the
// most specific first.
func cacheKeys(repo string) []string {
	host, _, _ := strings.Cut(repo, "/")
	return []string{repo, host + "/", globalKey}
}

func cacheKey(kind providerv1.PluginCacheKeyType, repo string) (string, error) {
	keys := cacheKeys(repo)
	switch kind {
	case providerv1.ImagePluginCacheKeyType:
		return keys[0], nil
	case providerv1.RegistryPluginCacheKeyType:
		return keys[1], nil
	case providerv1.GlobalPluginCacheKeyType:
		return keys[2], nil
	}
	return "", fmt.Errorf("its answer has cacheKeyType %q: want Image, Registry or Global", kind)
}

// ask runs the plugin once. Its request and its answer go by stdin and stdout.
func (p *plugin) ask(ctx context.Context, repo string) (*providerv1.CredentialProviderResponse, error) {
	request, err := json.Marshal(providerv1.CredentialProviderRequest{
		TypeMeta: metav1.TypeMeta{APIVersion: p.config.APIVersion, Kind: "CredentialProviderRequest"}, Image: repo,
	})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(p.program, p.config.Args...)
	cmd.Env = os.Environ()
	for _, v := range p.config.Env {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	out, err := run(ctx, cmd, request)
	if err != nil {
		return nil, err
	}
	answer := &providerv1.CredentialProviderResponse{}
	if err := json.Unmarshal(out, answer); err != nil {
		return nil, errors.New("its answer is no CredentialProviderResponse") // the error may quote a password
	}
	if answer.APIVersion != p.config.APIVersion || answer.Kind != "CredentialProviderResponse" {
		return nil, fmt.Errorf("its answer is %q %q: want kind CredentialProviderResponse of apiVersion %s", answer.APIVersion, answer.Kind, p.config.APIVersion)
	}
	return answer, nil
}
