package daemon

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryIsGivenBackAfterEachTimeOfWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var grown, shrunk int
		r := &rest{
			timer: time.NewTimer(restAfter), log: slog.New(slog.DiscardHandler),
			grow: func() { grown++ }, shrink: func() error { shrunk++; return nil },
		}
		for round := range 3 {
			for range 10 { // changes that come too soon for a rest
				r.worked()
				select {
				case <-r.timer.C:
					t.Fatal("a rest amid changes")
				case <-time.After(restAfter - time.Millisecond):
				}
			}
			<-r.timer.C
			r.ended()
			if want := round + 1; grown != want || shrunk != want {
				t.Fatalf("the heap might grow %d times and was shrunk %d times, want %d", grown, shrunk, want)
			}
			select {
			case <-r.timer.C:
				t.Fatal("a second rest without work")
			case <-time.After(time.Hour):
			}
		}
	})
}

// Otherwise memory is given back after the start and never again, or after each look.
func TestAChangeCountsAsWorkAndALookDoesNot(t *testing.T) {
	f := openFiles(t, t.TempDir(), "n1")
	took := func() bool { was := f.changed; f.changed = false; return was }
	for _, text := range []string{"a", "b"} {
		f.write("m.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {key: "+text+"}\n")
		if f.scan(); !took() {
			t.Errorf("key: %s: no change was noticed", text)
		}
		if f.scan(); took() {
			t.Errorf("key: %s: a second look at the file counts as a change", text)
		}
	}
}
