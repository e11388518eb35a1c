package warden

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/shoal-project/shoal/daemon/lease"
	"github.com/shoal-project/shoal/daemon/tenure"
	"github.com/shoal-project/shoal/daemon/witness"
)

// What other hosts' lease processes may ask for. Each is a POST.
const (
	pathLease  = "/lease"  // lease.Request
	pathClaim  = "/claim"  // lease.Command
	pathReport = "/report" // nothing
	pathSeat   = "/seat"   // nothing: who asks gives its seat up
)

// mostBody bounds what is asked.
const mostBody = 64 << 10

// reply is the answer to all of them.
type reply struct {
	Lease  *lease.Answer  `json:"lease,omitempty"`
	Claim  *lease.Outcome `json:"claim,omitempty"`
	Report *tenure.Report `json:"report,omitempty"`
	// Seats are the witnesses' ids, and Log their log's name, if who answers leads.
	Seats []string `json:"seats,omitempty"`
	Log   string   `json:"log,omitempty"`
	// Elsewhere is that another node is to be asked: Leader, or any if it is "".
	Elsewhere bool   `json:"elsewhere,omitempty"`
	Leader    string `json:"leader,omitempty"`
	Error     string `json:"error,omitempty"`
}

// ask is one question, as it came in.
type ask struct {
	path string
	from string // the node that asks
	body []byte
}

// answer is what this host's witness has to say. It never asks another node.
func (w *Warden) answer(ctx context.Context, a ask) reply {
	w.mu.Lock()
	s, log := w.seat, w.disk.Log
	w.mu.Unlock()
	if s == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		return reply{Elsewhere: true, Leader: w.leader}
	}
	r, err := w.answerWith(ctx, s, a)
	var elsewhere witness.NotLeading
	switch {
	case errors.As(err, &elsewhere):
		return reply{Elsewhere: true, Leader: nodeOf(elsewhere.Leader)}
	case err != nil:
		return reply{Error: err.Error()}
	}
	r.Log = log
	if servers, err := s.Servers(); err == nil {
		for _, server := range servers {
			r.Seats = append(r.Seats, server.ID)
		}
	}
	return r
}

func (w *Warden) answerWith(ctx context.Context, s *seat, a ask) (r reply, err error) {
	switch a.path {
	case pathLease:
		var in lease.Request
		if err := json.Unmarshal(a.body, &in); err != nil {
			return r, fmt.Errorf("what node %s asks can't be read: %w", a.from, err)
		}
		if in.Node != a.from {
			return r, fmt.Errorf("node %s asks for the lease of node %s", a.from, in.Node)
		}
		answer, err := s.Ask(ctx, in)
		return reply{Lease: &answer}, err
	case pathClaim:
		var in lease.Command
		if err := json.Unmarshal(a.body, &in); err != nil {
			return r, fmt.Errorf("what node %s asks can't be read: %w", a.from, err)
		}
		// To forget a node is a person's word, which may come by any host.
		if in.Node != a.from && in.Do != lease.Forget {
			return r, fmt.Errorf("node %s asks for a claim of node %s", a.from, in.Node)
		}
		out, err := s.Do(in)
		return reply{Claim: &out}, err
	case pathReport:
		report, err := w.report(ctx, s)
		return reply{Report: &report}, err
	case pathSeat:
		return r, w.removeNode(s, a.from)
	}
	return r, fmt.Errorf("nothing is at %s", a.path)
}

// asker is a connection of a node that is known.
type asker struct {
	net.Conn
	node string
}

type askerKey struct{}

// handOver gives a connection to the server of requests.
func (p *port) handOver(c net.Conn, node string) error {
	select {
	case p.askers <- asker{c, node}:
		return nil
	case <-p.w.ended.Done():
		return p.w.ended.Err()
	}
}

// askers is a net.Listener of connections whose other end is known.
type askers struct{ *port }

func (l askers) Accept() (net.Conn, error) {
	select {
	case c := <-l.askers:
		return c, nil
	case <-l.w.ended.Done():
		return nil, net.ErrClosed
	}
}
func (askers) Close() error     { return nil }
func (l askers) Addr() net.Addr { return address("requests") }

func (p *port) start(w *Warden) {
	p.w, p.conns, p.askers = w, make(map[net.Conn]struct{}), make(chan asker)
	p.asks.Transport = &http.Transport{
		DialTLSContext: func(ctx context.Context, _, host string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(host)
			if err != nil {
				return nil, err
			}
			c, err := p.dial(ctx, node, askProtocol)
			if err != nil {
				return nil, err
			}
			return p.keep(c), nil
		},
		IdleConnTimeout: 30 * time.Second, DisableCompression: true, MaxResponseHeaderBytes: 4 << 10,
	}
	p.serve = http.Server{
		Handler: http.HandlerFunc(p.answer), ReadHeaderTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 4 << 10,
		BaseContext: func(net.Listener) context.Context { return w.ended },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, askerKey{}, c.(asker).node)
		},
		ErrorLog: slog.NewLogLogger(w.config.Log.Handler(), slog.LevelDebug),
	}
	go func() { _ = p.serve.Serve(askers{p}) }() // it ends with the process
}

func (p *port) answer(rw http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, req.Body, mostBody))
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	from, _ := req.Context().Value(askerKey{}).(string)
	if !slices.ContainsFunc(p.w.snapshot().Members, func(m tenure.Member) bool { return m.Name == from }) {
		http.Error(rw, "node "+from+" is not known here", http.StatusForbidden) // any more
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), p.w.config.Budget.Deadline)
	defer cancel()
	out, err := json.Marshal(p.w.answer(ctx, ask{req.URL.Path, from, body}))
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	rw.Header()["Date"] = nil // bytes that nobody reads
	_, _ = rw.Write(out)      // who went away asks again
}
