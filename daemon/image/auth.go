package image

import (
	"encoding/json"
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	"k8s.io/kubernetes/pkg/credentialprovider"
)

// Credentials are what one pull may log in with: the imagePullSecrets of its pod, then the node's own. They match an image as the kubelet's do, with the kubelet's code: by
// host (with globs such as *.example.com), port and path prefix, the most specific first. The zero value pulls
// anonymously.
type Credentials struct {
	keyring  credentialprovider.BasicDockerKeyring
	fallback func(repo string) []Login
}

// Login is one way to log in at a registry.
type Login struct {
	Username, Password string
	IdentityToken      string // OAuth2 refresh token, instead of a password
}

// AddFallback has f asked for more logins, which are tried after the pull secrets. It gets the HOST/PATH of where the
// image is looked for, a mirror or the registry itself.
func (c *Credentials) AddFallback(f func(repo string) []Login) { c.fallback = f }

// AddDockerConfigJSON adds the value of .dockerconfigjson of a Secret of type kubernetes.io/dockerconfigjson. Errors
// never quote the secret.
func (c *Credentials) AddDockerConfigJSON(data []byte) error {
	var file credentialprovider.DockerConfigJSON
	if err := json.Unmarshal(data, &file); err != nil {
		return fmt.Errorf(".dockerconfigjson is not valid: %s", describeJSON(err))
	}
	c.keyring.Add(nil, file.Auths)
	return nil
}

// AddDockerConfig adds the value of .dockercfg of a Secret of type kubernetes.io/dockercfg, the older form.
func (c *Credentials) AddDockerConfig(data []byte) error {
	var hosts credentialprovider.DockerConfig
	if err := json.Unmarshal(data, &hosts); err != nil {
		return fmt.Errorf(".dockercfg is not valid: %s", describeJSON(err))
	}
	c.keyring.Add(nil, hosts)
	return nil
}

// describeJSON says where JSON went wrong without its content, which is secret.
func describeJSON(err error) string {
	switch e := err.(type) {
	case *json.SyntaxError:
		return fmt.Sprintf("syntax error at byte %d", e.Offset)
	case *json.UnmarshalTypeError:
		return fmt.Sprintf("wrong type at byte %d", e.Offset)
	}
	return "it does not have the form {\"auths\": {HOST: {\"auth\": BASE64}}}"
}

// attempts are the ways to log in for repo (HOST/PATH), in the order to try them: each matching credential, or nobody
// if none matches.
func (c *Credentials) attempts(repo string) []authn.Authenticator {
	if c == nil {
		return []authn.Authenticator{authn.Anonymous}
	}
	found, _ := c.keyring.Lookup(repo)
	var as []authn.Authenticator
	for _, f := range found {
		as = append(as, authn.FromConfig(authn.AuthConfig{
			Username: f.Username, Password: f.Password, Auth: f.Auth,
			IdentityToken: f.IdentityToken, RegistryToken: f.RegistryToken,
		}))
	}
	if c.fallback != nil {
		for _, l := range c.fallback(repo) {
			as = append(as, authn.FromConfig(authn.AuthConfig{Username: l.Username, Password: l.Password, IdentityToken: l.IdentityToken}))
		}
	}
	if len(as) == 0 {
		return []authn.Authenticator{authn.Anonymous}
	}
	return as
}
