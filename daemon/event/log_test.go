package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/view"
)

// begin is a daemon that keeps its events in file, until end. What was written
// is in the file once synctest.Wait returns and the batch's second is over.
func begin(t *testing.T, file string) (r *Recorder, list func() []string, end func()) {
	t.Helper()
	v := view.New(time.Now())
	r = NewRecorder(v, "n1", time.Now, slog.New(slog.DiscardHandler))
	run, err := r.Keep(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { run(ctx); close(done) }()
	list = func() []string {
		events, _ := v.List(schema.GroupKind{Kind: "Event"}, "")
		var out []string
		for _, o := range events {
			e := o.(*v1.Event)
			out = append(out, fmt.Sprintf("%s x%d over %v", e.Message, e.Count, e.LastTimestamp.Sub(e.FirstTimestamp.Time)))
		}
		slices.Sort(out)
		return out
	}
	return r, list, func() { stop(); <-done }
}

// pass lets time go by: flushes happen in between.
func pass(d time.Duration) {
	time.Sleep(d) // synctest's clock
	synctest.Wait()
}

func TestEventsCountOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "events.jsonl")
		r, _, end := begin(t, file)
		r.Warning(web, "BackOff", "back-off")
		r.Normal(web, "Pulled", "pulled")
		pass(10 * time.Minute)
		r.Warning(web, "BackOff", "back-off")
		end()

		r, list, end := begin(t, file)
		defer end()
		pass(10 * time.Minute)
		r.Warning(web, "BackOff", "back-off")
		if got, want := fmt.Sprint(list()), "[back-off x3 over 20m0s pulled x1 over 0s]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// A daemon that is killed writes nothing at its end: what it recorded more than
// a second before is in the file already.
func TestAKilledDaemonLosesTheLastSecondAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "events.jsonl")
		r, _, end := begin(t, file)
		defer end()
		r.Normal(web, "Pulled", "a")
		pass(2 * batch)
		r.Normal(web, "Pulled", "b")
		pass(2 * batch)
		r.Normal(web, "Pulled", "c")

		killed := filepath.Join(t.TempDir(), "events.jsonl")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(killed, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, list, end2 := begin(t, killed)
		defer end2()
		if got, want := fmt.Sprint(list()), "[a x1 over 0s b x1 over 0s]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestEventsThatAreOverAnHourOldAreNotReadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "events.jsonl")
		r, _, end := begin(t, file)
		r.Normal(web, "Pulled", "old")
		pass(40 * time.Minute)
		r.Normal(web, "Pulled", "new")
		end()
		pass(40 * time.Minute)
		_, list, end := begin(t, file)
		defer end()
		if got := fmt.Sprint(list()); got != "[new x1 over 0s]" {
			t.Errorf("got %s", got)
		}
	})
}

func TestALineThatWasCutShortHarmsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "events.jsonl")
		r, _, end := begin(t, file)
		r.Normal(web, "Pulled", "a")
		end()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		broken := string(text) + "\x00\x00{}\n[]\n" + strings.ReplaceAll(string(text[:len(text)-10]), `"a"`, `"half"`)
		if err := os.WriteFile(file, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		r, list, end := begin(t, file)
		r.Normal(web, "Pulled", "b")
		end()
		if got := fmt.Sprint(list()); got != "[a x1 over 0s b x1 over 0s]" {
			t.Errorf("got %s", got)
		}
		if events, err := readLog(file); err != nil || len(events) != 2 {
			t.Errorf("%d events in the file after it was repaired, want 2 (%v)", len(events), err)
		}
	})
}

func TestTheFileStaysSmallWhateverHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "events.jsonl")
		r, _, end := begin(t, file)
		for range 2000 { // one thing again and again: 600 bytes each time
			r.Warning(web, "BackOff", "back-off")
			pass(2 * batch)
		}
		if got := size(t, file); got > 2*slack {
			t.Errorf("one event that repeats takes %d bytes", got)
		}
		for i := range 3 * most {
			r.Normal(web, "Pulled", "%d %s", i, strings.Repeat("x", messageLimit))
		}
		end()
		if got := size(t, file); got > 2*mostBytes+slack {
			t.Errorf("many events take %d bytes", got)
		}
		_, list, end := begin(t, file)
		defer end()
		if got := size(t, file); got > mostBytes {
			t.Errorf("many events take %d bytes after a restart", got)
		}
		if got := len(list()); got < most/2 {
			t.Errorf("%d events were read back", got)
		}
	})
}

func TestAnIdleRecorderWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "events.jsonl")
		r, _, end := begin(t, file)
		defer end()
		r.Normal(web, "Pulled", "a")
		pass(time.Minute)
		before, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		after, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if !after.ModTime().Equal(before.ModTime()) || !os.SameFile(before, after) {
			t.Error("the file was written though nothing happened")
		}
	})
}

func TestAFileOfANewerFormatIsRefusedAndLeftAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "events.jsonl")
	const text = `{"version":2}` + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, _, list := setup()
	if _, err := r.Keep(file); !errors.Is(err, errNewer) {
		t.Errorf("got error %v", err)
	}
	r.Normal(web, "Pulled", "a")
	if got := fmt.Sprint(list()); got != "[Normal a x1]" {
		t.Errorf("got %s: events must go on in memory", got)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != text {
		t.Errorf("the file is %q now (%v)", got, err)
	}
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
