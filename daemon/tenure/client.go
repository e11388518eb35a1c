package tenure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/shoal-project/shoal/daemon/lease"
)

// ErrNotRunning says that there is no lease process on this host.
var ErrNotRunning = errors.New("the lease process (shoal-lease.service) does not run on this host")

// mostBytes bounds an answer: a report of a large cluster.
const mostBytes = 64 << 20

// Client asks this host's lease process.
type Client struct{ http http.Client }

// NewClient is for the socket at path.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{http.Client{Transport: &http.Transport{DialContext: dial, IdleConnTimeout: time.Minute, DisableCompression: true}}}
}

// Tell says how this host is, and waits for news of its lease, a second at most.
func (c *Client) Tell(ctx context.Context, t Tell) (s Standing, err error) {
	return s, c.post(ctx, PathTell, t, &s)
}

// Do makes or releases a claim, or forgets a node. After an error it may be done
// or not: ask again with the same Try.
func (c *Client) Do(ctx context.Context, command Claim) (out lease.Outcome, err error) {
	return out, c.post(ctx, PathClaim, command, &out)
}

// Report is who holds what.
func (c *Client) Report(ctx context.Context) (r Report, err error) {
	return r, c.post(ctx, PathReport, nil, &r)
}

// Leave gives this host's seat up, before it leaves the cluster.
func (c *Client) Leave(ctx context.Context) error { return c.post(ctx, PathLeave, nil, nil) }

// Recover makes this host the only witness, of what it knows.
func (c *Client) Recover(ctx context.Context) error { return c.post(ctx, PathRecover, nil, nil) }

func (c *Client) post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://lease"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return ErrNotRunning
	}
	if err != nil {
		return fmt.Errorf("ask the lease process: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, mostBytes))
	switch {
	case err != nil:
		return fmt.Errorf("ask the lease process: %w", err)
	case resp.StatusCode != http.StatusOK:
		return errors.New(strings.TrimSpace(string(data)))
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("the lease process' answer: %w", err)
	}
	return nil
}
