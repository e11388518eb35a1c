package agent

import (
	"context"
	"errors"
	"os"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/exclusive"
)

// tenured is a host's lease: leaves of that epoch are good.
type tenured struct {
	Claims
	epoch uint64
}

func (c *tenured) Key(*v1.Pod) string          { return "" }
func (c *tenured) Good(l exclusive.Leave) bool { return l.Epoch == c.epoch }

func TestNothingIsBegunByALeaveThatIsNotGood(t *testing.T) {
	w := newTestWorker(t)
	claims := &tenured{epoch: 3}
	w.agent.cfg.Claims = claims
	calledOff, callOff := context.WithCancel(t.Context())
	callOff()
	for _, tt := range []struct {
		what  string
		ctx   context.Context
		leave *exclusive.Leave
		want  error
	}{
		{"a pod like any other", t.Context(), nil, nil},
		{"an exclusive pod while the host has its lease", t.Context(), &exclusive.Leave{Epoch: 3}, nil},
		{"one that was begun under an earlier lease", t.Context(), &exclusive.Leave{Epoch: 2}, errLeaseLost},
		{"a pod that is called off", calledOff, nil, context.Canceled},
		{"an exclusive pod that is called off", calledOff, &exclusive.Leave{Epoch: 3}, context.Canceled},
	} {
		w.state.Leave = tt.leave
		if got := w.job().may(tt.ctx); !errors.Is(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.what, got, tt.want)
		}
	}
}

// The lease is lost after a container was prepared and before it is created.
func TestAPreparedContainerIsDroppedWhenTheLeaseIsLost(t *testing.T) {
	w, r := prepareFor(t)
	claims := &tenured{epoch: 3}
	w.agent.cfg.Claims = claims
	w.state.Leave = &exclusive.Leave{Epoch: 3}
	j := w.job()
	j.ahead = r
	claims.epoch = 4
	if _, err := j.makeContainer(t.Context(), r.container, 0); !errors.Is(err, errLeaseLost) {
		t.Errorf("got %v, want %v", err, errLeaseLost)
	}
	if _, err := os.Stat(w.bundle("main", 0)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was prepared of it is left: %v", err)
	}
	if _, err := j.makeSandbox(t.Context()); !errors.Is(err, errLeaseLost) {
		t.Errorf("a sandbox without a lease: got %v, want %v", err, errLeaseLost)
	}
}
