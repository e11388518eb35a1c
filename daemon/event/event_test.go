package event

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/view"
)

var web = v1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web", UID: "u1"}

func setup() (*Recorder, func(time.Duration), func() []string) {
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	v := view.New(now)
	r := NewRecorder(v, "n1", func() time.Time { return now }, slog.New(slog.DiscardHandler))
	list := func() []string {
		events, _ := v.List(schema.GroupKind{Kind: "Event"}, "")
		var out []string
		for _, o := range events {
			e := o.(*v1.Event)
			out = append(out, fmt.Sprintf("%s %s x%d", e.Type, e.Message, e.Count))
		}
		return out
	}
	return r, func(d time.Duration) { now = now.Add(d) }, list
}

func TestTheSameThingAgainCountsUp(t *testing.T) {
	r, _, list := setup()
	r.Warning(web, "BackOff", "back-off %s", "10s")
	r.Warning(web, "BackOff", "back-off %s", "10s")
	if got := fmt.Sprint(list()); got != "[Warning back-off 10s x2]" {
		t.Errorf("got %s", got)
	}
}

func TestEventsGoAnHourAfterTheyWereLastSeen(t *testing.T) {
	r, pass, list := setup()
	r.Normal(web, "Pulled", "a")
	r.Normal(web, "Started", "b")
	pass(40 * time.Minute)
	r.Normal(web, "Started", "b")
	pass(40 * time.Minute)
	r.Expire()
	if got := fmt.Sprint(list()); got != "[Normal b x2]" {
		t.Errorf("got %s", got)
	}
}

func TestTheOldestGoWhenThereAreTooMany(t *testing.T) {
	r, pass, list := setup()
	for i := range most + 2 {
		r.Normal(web, "Pulled", "message %d", i)
		pass(time.Millisecond)
	}
	got := list()
	if len(got) != most {
		t.Fatalf("got %d events, want %d", len(got), most)
	}
	for _, e := range got {
		if strings.HasSuffix(e, "message 0 x1") || strings.HasSuffix(e, "message 1 x1") {
			t.Errorf("the oldest is still there: %s", e)
		}
	}
}
