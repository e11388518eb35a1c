package view

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/shoal-project/shoal/manifests"
)

func podKey(ns, name string) manifests.Key {
	return manifests.Key{Kind: "Pod", Namespace: ns, Name: name}
}

func pod(ns, name, node string) Change {
	return Change{podKey(ns, name), &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec:       v1.PodSpec{NodeName: node},
	}}
}

var start = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

func TestChangesAreSeenInOrderWithTheirVersions(t *testing.T) {
	v := New(start)
	from := v.Version()
	v.Apply(pod("a", "x", "n1"))
	v.Apply(pod("a", "x", "n2"), Change{Key: podKey("a", "never-was")})
	v.Apply(Change{Key: podKey("a", "x")})

	events, _, err := v.Since(from)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		p := e.Object.(*v1.Pod)
		got = append(got, fmt.Sprintf("%s %s +%d old=%v", e.Type, p.Spec.NodeName, e.Version-from, e.Old != nil))
		if p.ResourceVersion != strconv.FormatUint(e.Version, 10) {
			t.Errorf("object says version %s in event %d", p.ResourceVersion, e.Version)
		}
	}
	want := fmt.Sprint([]string{
		string(watch.Added) + " n1 +1 old=false",
		string(watch.Modified) + " n2 +2 old=true",
		string(watch.Deleted) + " n2 +3 old=true",
	})
	if fmt.Sprint(got) != want {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestDeletionLeavesTheOldObjectAsReadersHoldIt(t *testing.T) {
	v := New(start)
	v.Apply(pod("a", "x", ""))
	held, _ := v.Get(podKey("a", "x"))
	before := held.GetResourceVersion()
	v.Apply(Change{Key: podKey("a", "x")})
	if held.GetResourceVersion() != before {
		t.Error("a deletion changed an object that a reader holds")
	}
}

func TestListIsSortedAndOfOneNamespace(t *testing.T) {
	v := New(start)
	v.Apply(pod("b", "x", ""), pod("a", "y", ""), pod("a", "x", ""))
	names := func(ns string) string {
		list, _ := v.List(schema.GroupKind{Kind: "Pod"}, ns)
		var s string
		for _, o := range list {
			s += o.GetNamespace() + "/" + o.GetName() + " "
		}
		return s
	}
	if got, want := names(""), "a/x a/y b/x "; got != want {
		t.Errorf("all: got %q, want %q", got, want)
	}
	if got, want := names("a"), "a/x a/y "; got != want {
		t.Errorf("a: got %q, want %q", got, want)
	}
}

func TestAWatcherTooFarBehindMustListAgain(t *testing.T) {
	v := New(start)
	from := v.Version()
	for i := range 3 * history {
		v.Apply(pod("a", "x", strconv.Itoa(i)))
	}
	if _, _, err := v.Since(from); !errors.Is(err, ErrExpired) {
		t.Errorf("far behind: got %v, want ErrExpired", err)
	}
	if events, _, err := v.Since(v.Version() - history); err != nil || len(events) != history {
		t.Errorf("within history: got %d events, %v", len(events), err)
	}
	for _, other := range []uint64{0, from - 1, v.Version() + 1} {
		if _, _, err := v.Since(other); !errors.Is(err, ErrExpired) {
			t.Errorf("version %d of another run: got %v, want ErrExpired", other, err)
		}
	}
}

func TestWaitReturnsAtTheNextChangeOrWithTheContext(t *testing.T) {
	v := New(start)
	from := v.Version()
	got := make(chan []Event, 1)
	go func() {
		events, _ := v.Wait(context.Background(), from)
		got <- events
	}()
	v.Apply(pod("a", "x", ""))
	if events := <-got; len(events) != 1 {
		t.Errorf("got %d events, want 1", len(events))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := v.Wait(ctx, v.Version()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
