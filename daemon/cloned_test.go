package daemon

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/daemon/record"
)

// TestAHostThatIsACopyRunsNoPodASecondTime: what is bound to the name ends there,
// nobody is told that it is gone, and it runs again once the name is this host's.
func TestAHostThatIsACopyRunsNoPodASecondTime(t *testing.T) {
	w := newWorld(t, 1, 2)
	s := w.nodes[0]
	var err error
	if s.store, err = record.Open(filepath.Join(t.TempDir(), "store.db"), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	defer s.store.Close()
	s.declare(keyWeb, deployment(6, "i"))
	w.settle()
	before, seq := w.String(), s.records.Head(s.name).Seq
	if !strings.Contains(before, s.name+" ") {
		t.Fatalf("nothing runs on %s:\n%s", s.name, before)
	}

	s.twinFound("10.0.0.9:7947")
	s.run()
	s.reconcile()
	if len(s.running) > 0 {
		t.Errorf("on a copy there run\n%s", w)
	}
	if now := s.records.Head(s.name).Seq; now != seq {
		t.Errorf("it says %d things more", now-seq)
	}
	if got := strings.Join(s.fleetProblems(), "\n"); !strings.Contains(got, "10.0.0.9:7947") {
		t.Errorf("people are told: %s", got)
	}
	for range 2 {
		s.twinGone()
		s.run()
	}
	if after := w.String(); after != before {
		t.Errorf("it was the only one after all, and there run\n%s\nbefore\n%s", after, before)
	}
	if got := fmt.Sprint(s.fleetProblems()); got != "[]" {
		t.Errorf("people are still told: %s", got)
	}
}
