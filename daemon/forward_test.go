package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/daemon/remote"
	"github.com/shoal-project/shoal/daemon/steward"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// TestWhoCarriesOutAWrite of three nodes, seen from n1.
func TestWhoCarriesOutAWrite(t *testing.T) {
	d := &Daemon{Options: Options{Config: &config.Config{Node: "n1"}}, view: view.New(time.Unix(1000, 0)), calls: make(chan func())}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for {
			select {
			case f := <-d.calls:
				f()
			case <-ctx.Done():
				return
			}
		}
	}()
	node := manifests.Key{Kind: "Node", Name: "n2"}
	pod := manifests.Key{Kind: "Pod", Namespace: "default", Name: "far"}
	d.view.Apply(
		view.Change{Key: node, Object: &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}},
		view.Change{Key: pod, Object: &v1.Pod{Spec: v1.PodSpec{NodeName: "n3"}}},
	)
	members := []steward.Member{{Name: "n1", Alive: true, Ready: true}, {Name: "n2", Alive: true, Ready: true}, {Name: "n3", Alive: true, Ready: true}}
	d.stewards.follow(members)
	seen := map[string]bool{}
	for i := range 30 {
		key := manifests.Key{Kind: "ConfigMap", Namespace: "default", Name: fmt.Sprint(i)}
		home, err := d.homeOf(ctx, remote.Delete, key)
		if want := steward.Steward(key.String(), members); err != nil || home != want {
			t.Errorf("%s: got %q, %v, want its steward, %q", key, home, err, want)
		}
		seen[home] = true
	}
	if len(seen) != 3 {
		t.Errorf("30 objects are written by %v", seen)
	}
	for _, tt := range []struct {
		verb remote.Verb
		key  manifests.Key
		want string
	}{
		{remote.Apply, node, "n2"},
		{remote.Delete, node, "n1"}, // which refuses
		{remote.Apply, manifests.Key{Kind: "Node", Name: "n9"}, "n1"},
		{remote.ApplyStatus, pod, "n3"},
		{remote.Apply, pod, steward.Steward(pod.String(), members)},
		{remote.Apply, manifests.Key{Kind: "Event", Namespace: "default", Name: "x"}, "n1"},
	} {
		if got, err := d.homeOf(ctx, tt.verb, tt.key); err != nil || got != tt.want {
			t.Errorf("%s of %s: got %q, %v, want %q", tt.verb, tt.key, got, err, tt.want)
		}
	}
	d.stewards.follow([]steward.Member{{Name: "n1", Alive: true}, {Name: "n2"}})
	if home, err := d.homeOf(ctx, remote.Apply, pod); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("while nobody decides: %q, %v", home, err)
	}
}

func TestWhatWasNotSent(t *testing.T) {
	for err, want := range map[error]bool{
		errByItself:     true,
		peer.ErrUnknown: true,
		fmt.Errorf("%w: it is busy", peer.ErrRefused):        true,
		&net.OpError{Op: "dial", Err: errors.New("refused")}: true,
		&net.OpError{Op: "read", Err: errors.New("reset")}:   false,
		io.ErrUnexpectedEOF:      false,
		context.DeadlineExceeded: false,
	} {
		if got := unsent(err); got != want {
			t.Errorf("%v: got %t, want %t", err, got, want)
		}
	}
}
