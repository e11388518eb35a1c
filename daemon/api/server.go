package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// Writer changes objects. Errors that a client should see as such are
// apierrors.StatusError; any other is answered with 500.
type Writer interface {
	// Apply makes the object so, and returns it as the view then has it. The
	// object is defaulted, validated and in its kind's own version; it belongs
	// to the Writer afterwards. A resourceVersion in it is a precondition:
	// Conflict if the object has another by now.
	Apply(ctx context.Context, obj view.Object, opts WriteOptions) (view.Object, []string, error)
	// ApplyStatus takes over what others than the node may say of a pod's status,
	// its conditions; a pod that has another resourceVersion by now is a Conflict.
	ApplyStatus(ctx context.Context, pod *v1.Pod, opts WriteOptions) (view.Object, error)
	// Delete begins the deletion and returns the object as it is then: with a
	// deletionTimestamp while it still goes on.
	Delete(ctx context.Context, key manifests.Key, opts DeleteOptions) (was view.Object, warnings []string, err error)
}

// WriteOptions says how to apply.
type WriteOptions struct {
	DryRun       bool // answer as if, change nothing
	Create       bool // AlreadyExists if the object is there
	FieldManager string
	// Subresource is "" or "ephemeralcontainers": then only those of the pod
	// change, and not what declares it.
	Subresource string
}

// DeleteOptions says how to delete.
type DeleteOptions struct {
	DryRun        bool
	GraceSeconds  *int64 // nil: the object's own
	Preconditions metav1.Preconditions
	Propagation   metav1.DeletionPropagation // "" is the kind's default
	// Evict deletes a pod only if its disruption budget allows that now; else the
	// error is TooManyRequests.
	Evict bool
}

// Size is a terminal's, in characters.
type Size struct{ Width, Height uint16 }

// Exec is a command to run in a container of a pod. Stdin, Stdout and Stderr
// are nil where the client wants none; with a TTY Stderr always is.
type Exec struct {
	Container string
	Command   []string
	TTY       bool
	Stdin     io.Reader
	Stdout    io.Writer
	Stderr    io.Writer
	Resize    <-chan Size // closed when the client is gone
}

// Attach is a client at a container's first process. Streams are nil where the
// client wants none; what a container with a terminal writes comes on Stdout.
type Attach struct {
	Container string
	Stdin     io.Reader
	Stdout    io.Writer
	Stderr    io.Writer
	Resize    <-chan Size // closed when the client is gone
}

// Pods is the running side of pods.
type Pods interface {
	// LogDir is where a pod's logs lie: DIR/CONTAINER/ATTEMPT.log in CRI format,
	// rotated ones beside it as ATTEMPT.log.TIMESTAMP or ATTEMPT.log.TIMESTAMP.gz,
	// where timestamps sort as text.
	LogDir(pod *v1.Pod) string
	// Exec runs a command and returns its exit code. It returns early when ctx
	// ends: the client went away.
	Exec(ctx context.Context, pod *v1.Pod, cmd Exec) (exitCode int, err error)
	// Attach copies the streams of a container's first process, from now on, until
	// that or ctx ends.
	Attach(ctx context.Context, pod *v1.Pod, a Attach) error
	// Dial connects to a TCP port of the pod's loopback interface. The connection
	// can be half closed: it has CloseWrite.
	Dial(ctx context.Context, pod *v1.Pod, port uint16) (net.Conn, error)
}

// Config is what a Server needs. All but Shoal, Pods and Ready must be given.
type Config struct {
	View    *view.View
	Writer  Writer
	Pods    Pods         // nil: logs, exec, attach and port-forward answer 501
	Tokens  Tokens       // nil: no tokens are made or checked
	Shoal   Shoal        // nil: /shoal answers 404
	Usage   Usage        // nil: metrics.k8s.io and stats answer 404
	Metrics http.Handler // answers /metrics and below; nil: 404
	Node    string       // this node's name
	Nodes   Nodes        // nil: this node is alone
	Version string       // Shoal's, for /version
	Now     func() time.Time
	Ready   func() error // nil: ready from the start
	Log     *slog.Logger
}

// Server answers requests. Make one with New.
type Server struct {
	Config
	kinds   *kinds
	mux     *http.ServeMux
	nodes   *http.ServeMux // what other nodes may ask
	gather  gatherer
	tally   tally
	fields  fieldTypes
	watches chan struct{} // a slot per watch, log stream or exec
	calls   chan struct{} // a slot per other request
}

// Bounds of what clients can make the daemon hold.
const (
	maxBody    = 3 << 20 // as the apiserver's
	maxWatches = 1000
	maxCalls   = 100
)

// New makes a Server.
func New(c Config) *Server {
	s := &Server{
		Config:  c,
		kinds:   loadKinds(),
		mux:     http.NewServeMux(),
		nodes:   http.NewServeMux(),
		watches: make(chan struct{}, maxWatches),
		calls:   make(chan struct{}, maxCalls),
	}
	if c.Usage != nil {
		s.kinds.addUsage()
	}
	s.mux.HandleFunc("GET /version", s.version)
	s.mux.HandleFunc("GET /healthz", healthy)
	s.mux.HandleFunc("GET /livez", healthy)
	s.mux.HandleFunc("GET /readyz", s.ready)
	s.mux.HandleFunc("GET /openapi/v2", openAPIv2)
	s.mux.HandleFunc("GET /openapi/v3", s.openAPIv3Index)
	s.mux.HandleFunc("GET /openapi/v3/{path...}", openAPIv3)
	s.mux.HandleFunc("GET /api", s.legacyVersions)
	s.mux.HandleFunc("GET /apis", s.groups)
	s.mux.HandleFunc("GET /apis/{group}", s.group)
	s.mux.HandleFunc("GET /api/{version}", s.resources)
	s.mux.HandleFunc("GET /apis/{group}/{version}", s.resources)
	s.mux.HandleFunc("/api/{version}/{rest...}", s.objects)
	s.mux.HandleFunc("/apis/{group}/{version}/{rest...}", s.objects)
	if c.Tokens != nil {
		s.tokenRoutes()
		s.kinds.all = append(s.kinds.all, tokenReviews)
	}
	if c.Shoal != nil {
		s.shoalRoutes()
	}
	s.usageRoutes()
	s.nodeRoutes()
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, errNoSuchPath) })
	return s
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := s.Now()
	// A stream before it on this connection may have left one.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	t := &tracked{ResponseWriter: w}
	s.mux.ServeHTTP(t, r)
	s.access(r, t.code, s.Now().Sub(start))
	s.tally.add(r.Method, t.code)
}

// Serve answers on l until ctx ends; then it gives requests in flight a
// second, cuts watches and streams, and waits for their handlers.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer s.gather.close()
	var handlers sync.WaitGroup
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handlers.Add(1)
			defer handlers.Done()
			s.ServeHTTP(w, r)
		}),
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       withPeer,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve the API: %w", err)
	case <-ctx.Done():
	}
	grace, done := context.WithTimeout(base, time.Second)
	defer done()
	context.AfterFunc(grace, cut)
	if err := srv.Shutdown(grace); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stop the API: %w", err)
	}
	cut()
	srv.Close()
	handlers.Wait()
	return nil
}
