package bed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/shoal-project/shoal/packaging/testbed/agent"
)

// HostState is how a host is doing.
type HostState struct {
	Name    string
	Kind    Kind
	Addr    string
	Running bool
}

// serveControl lets the owner and the command work the bed. The socket lies in a directory that only root enters.
func serveControl(l net.Listener, w *world) error {
	mux := http.NewServeMux()
	do := func(pattern string, act func(ctx context.Context, args []string) error) {
		mux.HandleFunc("POST "+pattern, func(rw http.ResponseWriter, r *http.Request) {
			var args []string
			err := json.NewDecoder(r.Body).Decode(&args)
			if err == nil {
				err = act(r.Context(), args)
			}
			if err != nil {
				http.Error(rw, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	each := func(act func(context.Context, machine) error) func(context.Context, []string) error {
		return func(ctx context.Context, names []string) error {
			for _, name := range names {
				m, err := w.machine(name)
				if err == nil {
					err = act(ctx, m)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	do("/cut", func(_ context.Context, hosts []string) error { return w.cut(hosts) })
	do("/disturb", func(_ context.Context, troubles []string) error { return w.disturb(troubles) })
	do("/kill", each(func(ctx context.Context, m machine) error { return m.powerCut(ctx) }))
	do("/start", each(func(_ context.Context, m machine) error { return m.start() }))
	mux.HandleFunc("GET /hosts", func(rw http.ResponseWriter, _ *http.Request) {
		var states []HostState
		for _, m := range w.machines {
			s := m.spec()
			states = append(states, HostState{s.Name, s.Kind, s.Addr.String(), m.running()})
		}
		_ = json.NewEncoder(rw).Encode(states)
	})
	return http.Serve(l, mux)
}

// controlClient works a bed from outside.
type controlClient struct{ http *http.Client }

func newControlClient(dial agent.Dial) controlClient {
	return controlClient{&http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableKeepAlives: true,
	}}}
}

func (c controlClient) post(ctx context.Context, path string, args []string) error {
	body, err := json.Marshal(args)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, http.MethodPost, path, bytes.NewReader(body))
	return err
}

func (c controlClient) hosts(ctx context.Context) (states []HostState, err error) {
	text, err := c.do(ctx, http.MethodGet, "/hosts", nil)
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal(text, &states)
	return states, err
}

func (c controlClient) do(ctx context.Context, method, path string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://bed"+path, body)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("reach the bed: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("bed: %s", strings.TrimSpace(string(text)))
	}
	return text, nil
}
