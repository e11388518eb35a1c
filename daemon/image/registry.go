package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Patience with registries. Only a response that brings nothing for stallAfter counts as dead: a layer may take hours.
const (
	dialTimeout   = 15 * time.Second
	headerTimeout = time.Minute
	stallAfter    = time.Minute
)

var errStalled = errors.New("it sends no more data")

const acceptManifests = string(types.OCIManifestSchema1) + "," + string(types.DockerManifestSchema2) + "," +
	string(types.OCIImageIndex) + "," + string(types.DockerManifestList)

// remotes is how to talk to each registry's host.
type remotes struct {
	registries map[string]Registry

	mu         sync.Mutex
	transports map[string]http.RoundTripper // by host; they pool connections
}

func newRemotes(list []Registry) (*remotes, error) {
	r := &remotes{registries: map[string]Registry{}, transports: map[string]http.RoundTripper{}}
	for _, reg := range list {
		if _, err := name.NewRegistry(reg.Host, name.StrictValidation); err != nil {
			return nil, fmt.Errorf("registry %q: %w", reg.Host, err)
		}
		if _, twice := r.registries[reg.Host]; twice {
			return nil, fmt.Errorf("registry %q is configured twice", reg.Host)
		}
		for _, m := range reg.Mirrors {
			if _, err := name.NewRepository(m+"/x", name.StrictValidation); err != nil || strings.Contains(m, "://") {
				return nil, fmt.Errorf("mirror %q of registry %q must be HOST[:PORT][/PREFIX]", m, reg.Host)
			}
		}
		r.registries[reg.Host] = reg
	}
	return r, nil
}

// endpoint is one place to get a repository from.
type endpoint struct {
	repo   name.Repository
	lookup string // HOST/PATH to find credentials by
	base   http.RoundTripper
}

// endpoints lists mirrors first, then the registry itself.
func (r *remotes) endpoints(named reference.Named) ([]endpoint, error) {
	host := reference.Domain(named)
	var list []endpoint
	for _, m := range r.registries[host].Mirrors {
		mirror, prefix, _ := strings.Cut(m, "/")
		e, err := r.endpoint(mirror, strings.TrimPrefix(prefix+"/"+reference.Path(named), "/"))
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	origin, err := r.endpoint(host, reference.Path(named))
	if err != nil {
		return nil, err
	}
	return append(list, origin), nil
}

func (r *remotes) endpoint(host, path string) (endpoint, error) {
	base, err := r.transport(host)
	if err != nil {
		return endpoint{}, err
	}
	var opts []name.Option
	if r.registries[host].PlainHTTP {
		opts = append(opts, name.Insecure)
	}
	repo, err := name.NewRepository(host+"/"+path, opts...)
	if err != nil {
		return endpoint{}, &failure{ErrInvalidName, fmt.Sprintf("%v %s/%s: %v", ErrInvalidName, host, path, err), err}
	}
	return endpoint{repo: repo, lookup: host + "/" + path, base: base}, nil
}

func (r *remotes) transport(host string) (http.RoundTripper, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.transports[host]; t != nil {
		return t, nil
	}
	config := r.registries[host]
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if config.CAFile != "" {
		pem, err := os.ReadFile(config.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file of registry %s: %w", host, err)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file of registry %s: %s holds no certificate in PEM form", host, config.CAFile)
		}
	}
	t := &guard{plain: config.PlainHTTP, inner: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots},
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       headerTimeout,
		ForceAttemptHTTP2:     true,
	}}
	r.transports[host] = t
	return t, nil
}

// guard refuses plain HTTP where nobody allowed it: go-containerregistry would fall back to it on private addresses,
// with the password, and a registry could redirect to it.
type guard struct {
	plain bool
	inner http.RoundTripper
}

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" && !g.plain && !isLoopback(req.URL) {
		return nil, errPlainHTTP
	}
	return g.inner.RoundTrip(req)
}

func isLoopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// client talks to one endpoint as one user.
type client struct {
	endpoint
	http *http.Client
}

func (e endpoint) login(ctx context.Context, who authn.Authenticator) (*client, error) {
	t, err := transport.NewWithContext(ctx, e.repo.Registry, who, e.base, []string{e.repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, explain(e.host(), err)
	}
	return &client{e, &http.Client{Transport: t}}, nil
}

// host is the registry's name as users write it.
func (e endpoint) host() string {
	host, _, _ := strings.Cut(e.lookup, "/")
	return host
}

// get asks for a manifest or a blob. The caller closes the response, whose status is one of want.
func (c *client) get(ctx context.Context, kind, what string, header http.Header, want ...int) (*http.Response, error) {
	u := fmt.Sprintf("%s://%s/v2/%s/%s/%s", c.repo.Scheme(), c.repo.RegistryStr(), c.repo.RepositoryStr(), kind, what)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, withoutQuery(err)
	}
	if err := transport.CheckError(resp, want...); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// manifest reads a manifest or index by tag or digest. A digest is checked.
func (c *client) manifest(ctx context.Context, what string) (raw []byte, digest v1.Hash, mediaType types.MediaType, err error) {
	resp, err := c.get(ctx, "manifests", what, http.Header{"Accept": {acceptManifests}}, http.StatusOK)
	if err != nil {
		return nil, digest, "", explain(c.host(), err)
	}
	defer resp.Body.Close()
	raw, err = readAll(resp.Body, maxManifest)
	if err != nil {
		return nil, digest, "", explain(c.host(), err)
	}
	digest = hashOf(raw)
	if isID(what) && digest.String() != what {
		return nil, digest, "", invalidf("%s sent a manifest with digest %s for %s", c.host(), digest, what)
	}
	mediaType = types.MediaType(strings.TrimSpace(strings.Split(resp.Header.Get("Content-Type"), ";")[0]))
	return raw, digest, mediaType, nil
}

// smallBlob reads a blob into memory and checks its digest.
func (c *client) smallBlob(ctx context.Context, d v1.Descriptor, limit int64) ([]byte, error) {
	resp, err := c.get(ctx, "blobs", d.Digest.String(), http.Header{}, http.StatusOK)
	if err != nil {
		return nil, explain(c.host(), err)
	}
	defer resp.Body.Close()
	raw, err := readAll(resp.Body, limit)
	if err != nil {
		return nil, explain(c.host(), err)
	}
	if got := hashOf(raw); got != d.Digest {
		return nil, invalidf("%s sent a blob with digest %s for %s", c.host(), got, d.Digest)
	}
	return raw, nil
}

// blobFrom opens a blob at an offset. What comes starts at start, which is 0 if the registry does not do ranges.
func (c *client) blobFrom(ctx context.Context, digest v1.Hash, offset int64) (body io.ReadCloser, start int64, err error) {
	header := http.Header{"Accept-Encoding": {"identity"}}
	if offset > 0 {
		header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	resp, err := c.get(ctx, "blobs", digest.String(), header, http.StatusOK, http.StatusPartialContent)
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, 0, nil
	}
	var first int64
	if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &first); err != nil || first != offset {
		resp.Body.Close()
		return nil, 0, invalidf("%s answered range %q to one from %d", c.host(), resp.Header.Get("Content-Range"), offset)
	}
	return resp.Body, first, nil
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = invalidf("answer of more than %d bytes", limit)
	}
	return b, err
}
