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
	"os"
	"time"

	"github.com/shoal-project/shoal/daemon/lease"
	"github.com/shoal-project/shoal/daemon/tenure"
)

// mostTold bounds what the daemon says: some hundred bytes for each host.
const mostTold = 16 << 20

// listen opens the socket for the host's daemon and its people.
func (w *Warden) listen() (net.Listener, error) {
	// One that is left of a process that was killed.
	if err := os.Remove(w.config.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", w.config.Socket)
	if err != nil {
		return nil, fmt.Errorf("listen for the daemon: %w", err)
	}
	if err := os.Chmod(w.config.Socket, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// serve answers on the socket until ctx ends.
func (w *Warden) serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("POST "+tenure.PathTell, talk(w.tell))
	mux.Handle("POST "+tenure.PathClaim, talk(w.do))
	mux.Handle("POST "+tenure.PathReport, talk(func(ctx context.Context, _ struct{}) (tenure.Report, error) { return w.reportAny(ctx) }))
	mux.Handle("POST "+tenure.PathLeave, talk(func(ctx context.Context, _ struct{}) (struct{}, error) {
		_, err := w.find(ctx, pathSeat, nil)
		return struct{}{}, err
	}))
	mux.Handle("POST "+tenure.PathRecover, talk(func(context.Context, struct{}) (struct{}, error) { return struct{}{}, w.recover() }))
	server := http.Server{
		Handler: mux, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog: slog.NewLogLogger(w.config.Log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the daemon: %w", err)
	}
	return nil
}

// talk is a question in JSON and its answer.
func talk[In, Out any](do func(context.Context, In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		var in In
		data, err := io.ReadAll(http.MaxBytesReader(rw, req.Body, mostTold))
		if err == nil {
			err = json.Unmarshal(data, &in)
		}
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(req.Context(), lease.Default.Deadline)
		defer cancel()
		out, err := do(ctx, in)
		if err == nil {
			data, err = json.Marshal(out)
		}
		if err != nil {
			http.Error(rw, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = rw.Write(data) // who went away asks again
	})
}

// reportAny is the leader's report, or, where nobody leads, what this host knows.
func (w *Warden) reportAny(ctx context.Context) (tenure.Report, error) {
	quick, cancel := context.WithTimeout(ctx, onceWithin)
	defer cancel()
	me := w.snapshot().Node
	out, err := w.find(quick, pathReport, nil)
	if err == nil && out.Report != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		out.Report.Node, out.Report.Problem = me, w.problem()
		return *out.Report, nil
	}
	w.mu.Lock()
	s := w.seat
	r := tenure.Report{Node: me, Problem: w.problem()}
	w.mu.Unlock()
	if s != nil {
		return w.reportOf(ctx, s)
	}
	return r, nil
}
