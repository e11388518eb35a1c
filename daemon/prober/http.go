package prober

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/probe"
)

// kubernetes is the version whose kubelet this behaves as.
const kubernetes = "1.36"

// client makes a connection for each request, as the kubelet does: one that is
// kept would go on working where a new one is refused. Certificates are not
// looked at, and no proxy is used.
var client = &http.Client{
	Transport: schemes{plain: single{}, secure: &http.Transport{
		DialContext:       dialer.DialContext,
		DisableKeepAlives: true, DisableCompression: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the probe's definition: "the kubelet skips certificate verification"
	}},
	CheckRedirect: stayOnHost,
}

// schemes chooses by the URL's scheme.
type schemes struct{ plain, secure http.RoundTripper }

func (s schemes) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" {
		return s.plain.RoundTrip(r)
	}
	return s.secure.RoundTrip(r)
}

// stayOnHost follows redirects that lead to the same host name, ten at most.
func stayOnHost(r *http.Request, via []*http.Request) error {
	if r.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}

// httpGet succeeds on any status from 200 to 399. The events of failures do not
// have the body: it may hold what not everybody may see.
func httpGet(ctx context.Context, t Target, g *v1.HTTPGetAction) probe.Outcome {
	r, err := Request(ctx, t, g, "probe")
	if err != nil {
		return probe.Outcome{Err: err}
	}
	res, err := client.Do(r)
	if err != nil {
		return failed("%v", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxOutput))
	switch {
	case err != nil:
		return probe.Outcome{Err: err}
	case res.StatusCode < 200 || res.StatusCode >= 400:
		return failed("HTTP probe failed with statuscode: %d", res.StatusCode)
	case res.StatusCode >= 300:
		return probe.Outcome{Result: probe.Success, Warning: true, Output: "Probe terminated redirects, Response body: " + string(body)}
	}
	return probe.Outcome{Result: probe.Success, Output: string(body)}
}

// Request is the request of a probe or of a hook; the purpose ("probe",
// "lifecycle") is part of the User-Agent. It is the kubelet's
// NewRequestForHTTPGetAction: headers may replace User-Agent, Accept and Host,
// and an empty Accept sends none.
func Request(ctx context.Context, t Target, g *v1.HTTPGetAction, purpose string) (*http.Request, error) {
	port, err := Port(g.Port, t.Container)
	if err != nil {
		return nil, err
	}
	host := g.Host
	if host == "" {
		host = t.Host
	}
	u, err := url.Parse(g.Path)
	if err != nil {
		u = &url.URL{Path: g.Path}
	}
	u.Scheme = strings.ToLower(string(g.Scheme))
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	u.Host = net.JoinHostPort(host, strconv.Itoa(port))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, h := range g.HTTPHeaders {
		r.Header.Add(h.Name, h.Value)
	}
	if _, given := r.Header["User-Agent"]; !given {
		r.Header.Set("User-Agent", "kube-"+purpose+"/"+kubernetes)
	}
	if _, given := r.Header["Accept"]; !given {
		r.Header.Set("Accept", "*/*")
	} else if r.Header.Get("Accept") == "" {
		r.Header.Del("Accept")
	}
	r.Host = r.Header.Get("Host")
	return r, nil
}
