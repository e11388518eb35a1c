package apitest

import (
	"log/slog"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// Node is a server over fakes.
type Node struct {
	View   *view.View
	Writer *Writer
	Pods   *Pods
	Shoal  *Shoal
	API    *api.Server
}

// NewNode makes the node n1, which logs to log and keeps pods' logs in dir.
func NewNode(dir string, now func() time.Time, log *slog.Logger) *Node {
	n := &Node{View: view.New(now()), Pods: &Pods{Dir: dir}, Shoal: &Shoal{}}
	n.Writer = &Writer{View: n.View, Node: "n1", Now: now, Declared: map[manifests.Key]string{}}
	n.API = api.New(api.Config{
		View: n.View, Writer: n.Writer, Pods: n.Pods, Shoal: n.Shoal,
		Node: "n1", Version: "test", Now: now, Log: log,
	})
	for _, name := range []string{"default", "kube-system"} {
		n.View.Apply(view.Change{Key: manifests.Key{Kind: "Namespace", Name: name}, Object: &v1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(now())},
			Status:     v1.NamespaceStatus{Phase: v1.NamespaceActive},
		}})
	}
	return n
}

// Start serves a node on a socket until the test ends, and returns the
// socket's path.
func Start(t *testing.T, n *Node) string {
	t.Helper()
	path := t.TempDir() + "/shoal.sock"
	l, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	ctx := t.Context()
	go func() { served <- n.API.Serve(ctx, l) }()
	t.Cleanup(func() {
		if err := <-served; err != nil { // t.Context ends before clean-up
			t.Error(err)
		}
	})
	return path
}
