// Package agent runs the pods of this host: for each, one goroutine that
// observes, asks daemon/pod what to do, and does it.
//
// What it must know after it was killed lies in files: below Run what lives as
// long as the processes do, below Lib what lives as long as the pod. Whatever
// is found there and belongs to no pod is taken down.
package agent

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/cpuset"
	"github.com/shoal-project/shoal/daemon/image"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/prober"
	"github.com/shoal-project/shoal/daemon/scope"
	"github.com/shoal-project/shoal/daemon/userns"
	"github.com/shoal-project/shoal/proxy/podnet"
	"github.com/shoal-project/shoal/storage/volume"
)

// Events is where the agent says what happened to a pod.
type Events interface {
	Normal(about v1.ObjectReference, reason, format string, args ...any)
	Warning(about v1.ObjectReference, reason, format string, args ...any)
}

// Config is what the agent works with.
type Config struct {
	Run string // sandboxes and bundles: /run/shoal/pods
	Lib string // roots and volumes: /var/lib/shoal/pods
	Log string // container logs: /var/log/pods

	Domain     string             // the cluster's DNS domain: cluster.local
	Serves     func(*v1.Pod) bool // whether a service leads to a pod; nil: to none
	Node       func() pod.Node    // the host as it is now: addresses come and go
	Limits     scope.NodeLimits
	Volumes    volume.NodeInfo
	Scopes     scope.Host
	Containers *container.Runtime
	Images     *image.Store
	Network    *podnet.Network // nil: only pods in the host's network can run, until UseNetwork
	Objects    pod.Objects
	Events     Events

	// NodeLogins are the node's own logins for a repository (HOST/PATH), beside
	// a pod's imagePullSecrets.
	NodeLogins func(ctx context.Context, repo string) []image.Login

	// ResolvConf is a pod's /etc/resolv.conf.
	ResolvConf func(*v1.Pod) (string, error)
	// Refuse says why the host, as it is now, takes no such pod; nil when it does:
	// then there is room for it, which no other gets.
	Refuse func(*v1.Pod) *pod.Rejection
	// Room says why the host has no room for the larger requests of an edited pod;
	// "" when it has: then no other gets it. Given is told of what pods have without
	// that question. nil: there is room for all.
	Room  func(*v1.Pod) string
	Given func(*v1.Pod)
	// OCI is the OCI runtime that the pod's RuntimeClass names, "" for that of
	// Containers. It is asked when the sandbox is made and kept with it; nil: no
	// pod has one.
	OCI func(*v1.Pod) (string, error)
	// Publish takes a pod's new status, until ctx ends. With gone, nothing of the
	// pod is left.
	Publish func(ctx context.Context, p *v1.Pod, status v1.PodStatus, gone bool)
	// Flush returns when what was decided is on disk; nil: it is.
	Flush func() error

	// PullSecrets names the secrets that a pod's images are pulled with.
	PullSecrets func(*v1.Pod) []v1.LocalObjectReference

	// Users is where pods with hostUsers: false get their IDs from; UserNamespaces
	// says why an OCI runtime ("": that of Containers) can't run them, nil when it
	// can. Without it no pod can.
	Users          userns.Pool
	UserNamespaces func(ctx context.Context, oci string) error

	// Claims is how exclusive pods get leave to run; nil: they run like others.
	Claims Claims

	Rules pod.Rules // what pods may do on this host
	// Took is told how long an operation took, by one of the names in took.go;
	// nil: nobody is.
	Took        func(operation string, d time.Duration)
	CPUs        cpuset.Node // who may hold processors at first
	CPUsChanged func()      // who holds which has changed; nil: nobody wants to know

	SeccompDefault bool
	MinOOMScoreAdj int   // the lowest that this daemon may give a process
	LogMaxSize     int64 // bytes at which a container's log is rotated, the kubelet's containerLogMaxSize
	LogMaxFiles    int   // kept of each container's run, the kubelet's containerLogMaxFiles
	Now            func() time.Time
	Logger         *slog.Logger
}

// Agent runs pods. Make one with New, then Recover, then Sync.
type Agent struct {
	cfg    Config
	log    *slog.Logger
	starts chan struct{} // how many sandboxes and containers are made at once
	ends   *processWatch
	prober *prober.Prober
	cores  *cores
	users  ranges

	mu      sync.Mutex
	workers map[types.UID]*worker
	net     atomic.Pointer[podnet.Network]
	wait    sync.WaitGroup
	ctx     context.Context
}

// New makes an agent whose work ends with ctx. Its pods run on.
func New(ctx context.Context, cfg Config) *Agent {
	if cfg.Took == nil {
		cfg.Took = func(string, time.Duration) {}
	}
	if cfg.Room == nil {
		cfg.Room = func(*v1.Pod) string { return "" }
	}
	if cfg.Given == nil {
		cfg.Given = func(*v1.Pod) {}
	}
	a := &Agent{
		cfg: cfg, log: cfg.Logger, ctx: ctx,
		// Making containers is mostly processor time (crun): more at once than
		// there are processors only makes each slower.
		starts:  make(chan struct{}, runtime.NumCPU()+1),
		workers: make(map[types.UID]*worker),
		prober:  prober.New(),
	}
	a.net.Store(cfg.Network)
	a.users = ranges{lib: cfg.Lib, pool: cfg.Users, of: make(map[types.UID]userns.Range)}
	a.cores = newCores(cfg.CPUs, cfg.Logger, a.coresChanged)
	return a
}

// Sync makes the pods that should be on this host what runs on it. Pods that
// are not in the list any more must have been published as gone.
func (a *Agent) Sync(pods []*v1.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range pods {
		if p.Spec.NodeName != a.cfg.Node().Name {
			continue
		}
		w, ok := a.workers[p.UID]
		if !ok {
			w = newWorker(a, p)
			w.given = p
			a.workers[p.UID] = w
			a.wait.Go(func() { a.run(w) })
			continue
		}
		if !sameWish(w.given, p) {
			w.given = p
			w.update(p)
		}
	}
}

// sameWish says whether nothing that a worker follows differs: each change of
// one pod brings the list of all, and looking at a pod costs more than this.
func sameWish(a, b *v1.Pod) bool {
	if a == b {
		return true
	}
	x, y := a.ObjectMeta, b.ObjectMeta
	x.ResourceVersion, y.ResourceVersion = "", ""
	return equality.Semantic.DeepEqual(x, y) && equality.Semantic.DeepEqual(a.Spec, b.Spec)
}

func (a *Agent) run(w *worker) {
	defer close(w.ended)
	w.run(a.ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.workers, w.uid)
}

// Look makes the pods of a namespace, "" for all, look again, because an object
// they may refer to has changed.
func (a *Agent) Look(namespace string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		if namespace == "" || w.namespace == namespace {
			w.send(func() {
				w.stale()
				w.retryNow()
			})
		}
	}
}

// ImagesInUse are the store's IDs of the images that containers on this host
// run from, or will run from again.
func (a *Agent) ImagesInUse() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	used := make(map[string]bool)
	for _, w := range a.workers {
		w.mu.Lock()
		for _, id := range w.images {
			used[id] = true
		}
		w.mu.Unlock()
	}
	return used
}

// Wait returns when every worker has ended, after the context did.
func (a *Agent) Wait() { a.wait.Wait() }

// poke makes one pod's worker look again.
func (a *Agent) poke(uid types.UID) {
	a.mu.Lock()
	w := a.workers[uid]
	a.mu.Unlock()
	if w != nil {
		w.poke()
	}
}

// LogDir is where a pod's containers log to, as the kubelet has it:
// NAMESPACE_NAME_UID below /var/log/pods.
func (a *Agent) LogDir(p *v1.Pod) string { return logDir(a.cfg.Log, p.Namespace, p.Name, p.UID) }

func logDir(root, namespace, name string, uid types.UID) string {
	return filepath.Join(root, fmt.Sprintf("%s_%s_%s", namespace, name, uid))
}

// reference names a pod, or one of its containers, in events.
func reference(p *v1.Pod, containerName string) v1.ObjectReference {
	ref := v1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
	}
	for _, c := range p.Spec.InitContainers {
		if c.Name == containerName {
			ref.FieldPath = "spec.initContainers{" + containerName + "}"
		}
	}
	for _, c := range p.Spec.Containers {
		if c.Name == containerName {
			ref.FieldPath = "spec.containers{" + containerName + "}"
		}
	}
	for _, c := range p.Spec.EphemeralContainers {
		if c.Name == containerName {
			ref.FieldPath = "spec.ephemeralContainers{" + containerName + "}"
		}
	}
	return ref
}
