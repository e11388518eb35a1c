package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/api/apitest"
)

// now is the clock of all tests.
var now = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

// client speaks HTTP with a fake node.
type client struct {
	*apitest.Node
	t    *testing.T
	http *http.Client
}

func newClient(t *testing.T) *client {
	t.Helper()
	n := apitest.NewNode(t.TempDir(), func() time.Time { return now }, slog.New(slog.DiscardHandler))
	socket := apitest.Start(t, n)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	transport := &http.Transport{DialContext: dial}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{Node: n, t: t, http: &http.Client{Transport: transport}}
}

func (c *client) do(method, path, body string, header http.Header) *http.Response {
	c.t.Helper()
	ctx, done := context.WithTimeout(context.Background(), 60*time.Second)
	c.t.Cleanup(done)
	r, err := http.NewRequestWithContext(ctx, method, "http://shoal"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if header != nil {
		r.Header = header
	}
	resp, err := c.http.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

// get is the body of an answer that must be good.
func (c *client) get(path string) string {
	c.t.Helper()
	resp := c.do("GET", path, "", nil)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		c.t.Errorf("%s: %d %v\n%s", path, resp.StatusCode, err, b)
	}
	return string(b)
}

// status is the code and message of an answer: "404 pods "x" not found".
func (c *client) status(method, path, body string, contentType ...string) string {
	c.t.Helper()
	h := http.Header{}
	for _, v := range contentType {
		h.Set("Content-Type", v)
	}
	resp := c.do(method, path, body, h)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	var s struct { // not a metav1.Status: objects have a status of their own
		Message string
		Code    int
	}
	if err := json.Unmarshal(b, &s); err != nil {
		c.t.Errorf("%s %s: not JSON: %q", method, path, b)
	}
	if resp.StatusCode >= 400 && s.Code != resp.StatusCode {
		c.t.Errorf("%s %s: HTTP status %d with a Status of code %d", method, path, resp.StatusCode, s.Code)
	}
	return strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", s.Message))
}

// as decodes the body of an answer.
func as[T any](c *client, method, path, body string, header http.Header) (T, http.Header) {
	c.t.Helper()
	resp := c.do(method, path, body, header)
	defer resp.Body.Close()
	var v T
	b, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil || resp.StatusCode >= 300 {
		c.t.Fatalf("%s %s: %d %v\n%s", method, path, resp.StatusCode, err, b)
	}
	return v, resp.Header
}
