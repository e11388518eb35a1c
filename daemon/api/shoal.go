package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Shoal is what only Shoal has: where objects come from, and images. It is
// served as JSON below /shoal/v1. Within v1 fields are only added.
type Shoal interface {
	Manifests(ctx context.Context) (ManifestList, error)
	Status(ctx context.Context) (Status, error)
	Images(ctx context.Context) ([]Image, error)
	// PullImage calls progress from one goroutine at a time.
	PullImage(ctx context.Context, ref string, progress func(Progress)) (Image, error)
	// LoadImage reads an archive (docker save, OCI), compressed or not.
	LoadImage(ctx context.Context, archive io.Reader, progress func(Progress)) ([]Image, error)
	// RemoveImage answers NotFound for an unknown image, Conflict for one in use.
	RemoveImage(ctx context.Context, ref string) error

	// Members is the cluster as this node sees it.
	Members(ctx context.Context) (MemberList, error)
	// ForgetMember has the whole cluster forget a node. It answers NotFound for one
	// that nobody knows, Conflict for one that is alive.
	ForgetMember(ctx context.Context, name string) error
	// Join looks for others until the daemon ends, Leave ends that.
	Join(ctx context.Context, hosts []string) error
	Leave(ctx context.Context) error

	// Plan says what would happen. It answers a *plan.UnknownNodeError for a node
	// that there is not.
	Plan(ctx context.Context, q PlanRequest) (PlanList, error)

	// LookUp resolves a name as a pod does. It answers NotFound for a pod that there
	// is not, BadRequest for one of another node.
	LookUp(ctx context.Context, q DNSRequest) (DNSLookup, error)

	// RotateKey has the cluster go over to a new key, and tells how far it is. With
	// finish the old one is dropped.
	RotateKey(ctx context.Context, finish bool, say func(text string)) error
}

// ManifestList is each source file of this node, in order of path.
type ManifestList struct {
	Sources []ManifestSource `json:"sources"`
}

// ManifestSource is a file that declares objects, or was meant to.
type ManifestSource struct {
	Path     string            `json:"path"`
	State    ManifestState     `json:"state"`
	Modified time.Time         `json:"modified,omitzero"`
	Reason   string            `json:"reason,omitempty"` // of Ignored and Unreadable
	Objects  []ManifestObject  `json:"objects"`          // those in force
	Problems []ManifestProblem `json:"problems,omitempty"`
}

// ManifestState is how a file stands.
type ManifestState string

// States of files and objects.
const (
	StateActive         ManifestState = "Active"
	StateStale          ManifestState = "Stale"          // the file is bad, its last good version is in force; an object lost to a newer edit
	StateInvalid        ManifestState = "Invalid"        // bad, and there never was a good version
	StateUnreadable     ManifestState = "Unreadable"     // its directory is missing, say
	StateIgnored        ManifestState = "Ignored"        // no manifest
	StateShadowed       ManifestState = "Shadowed"       // another file of higher precedence declares the object
	StateNotImplemented ManifestState = "NotImplemented" // accepted and not run yet
)

// ManifestObject is one object that a file declares.
type ManifestObject struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Namespace  string        `json:"namespace,omitempty"`
	Name       string        `json:"name"`
	Line       int           `json:"line"`
	State      ManifestState `json:"state"`
	Reason     string        `json:"reason,omitempty"` // what shadows it, why it is not run
}

// ManifestProblem is one thing wrong with a file.
type ManifestProblem struct {
	Line       int    `json:"line,omitempty"`
	Column     int    `json:"column,omitempty"`
	Field      string `json:"field,omitempty"`
	Message    string `json:"message"`
	Suggestion string `json:"suggestion,omitempty"`
}

// Status is the node at a glance.
type Status struct {
	Node       string            `json:"node"`
	Version    string            `json:"version"`
	Started    time.Time         `json:"started"`
	Supervisor string            `json:"supervisor"` // "systemd" or "cgroups" or "none"
	Unenforced []string          `json:"unenforced,omitempty"`
	Runtime    string            `json:"runtime,omitempty"`
	Pods       map[string]int    `json:"pods"` // by phase
	Files      map[string]int    `json:"files"`
	Images     int               `json:"images"`
	Usage      *StatusUsage      `json:"usage,omitempty"`
	Conditions []StatusCondition `json:"conditions,omitempty"`
	Cluster    *StatusCluster    `json:"cluster,omitempty"` // nil: this host is a cluster of its own
	Lease      *StatusLease      `json:"lease,omitempty"`   // nil: nothing here needs one
}

// StatusLease is how the host's lease for exclusive work stands.
type StatusLease struct {
	Epoch     uint64 `json:"epoch"` // 0: it has none
	Leader    string `json:"leader,omitempty"`
	Witnesses int    `json:"witnesses,omitempty"` // as far as the host knows
	Problem   string `json:"problem,omitempty"`   // why it has none
}

// StatusCluster is the cluster at a glance.
type StatusCluster struct {
	ID       string   `json:"id"`
	Members  int      `json:"members"`
	Alive    int      `json:"alive"`
	Problems []string `json:"problems,omitempty"`
}

// StatusUsage is what the whole host uses of what it has.
type StatusUsage struct {
	MilliCPU       uint64 `json:"milliCPU"` // over a moment
	CPUs           int    `json:"cpus"`
	MemoryBytes    uint64 `json:"memoryBytes"` // the working set
	MemoryCapacity uint64 `json:"memoryCapacity"`
	DiskBytes      uint64 `json:"diskBytes"` // of the file system with pods' data
	DiskCapacity   uint64 `json:"diskCapacity"`
}

// StatusCondition is something about the node that a person should know.
type StatusCondition struct {
	Type    string `json:"type"`
	OK      bool   `json:"ok"`
	Message string `json:"message,omitempty"`
}

// Image is an image in this node's store.
type Image struct {
	ID      string    `json:"id"` // the digest of its config
	Names   []string  `json:"names,omitempty"`
	Digests []string  `json:"digests,omitempty"`
	Size    int64     `json:"size"` // bytes of its layers as pulled
	Created time.Time `json:"created,omitzero"`
	InUse   bool      `json:"inUse,omitempty"`
}

// Progress is how far one part of a pull or load is.
type Progress struct {
	Part  string `json:"part"`            // a layer's short digest, or a file
	Phase string `json:"phase"`           // "pulling", "unpacking", "done", "exists"
	Done  int64  `json:"done"`            // bytes
	Total int64  `json:"total,omitempty"` // bytes; 0: unknown
}

// ImageEvent is one line of the answer to a pull or load; the last one has
// Images or Error.
type ImageEvent struct {
	Progress *Progress `json:"progress,omitempty"`
	Images   []Image   `json:"images,omitempty"`
	Error    string    `json:"error,omitempty"`
}

func (s *Server) shoalRoutes() {
	s.mux.HandleFunc("GET /shoal/v1/manifests", answer(s, s.Shoal.Manifests))
	s.mux.HandleFunc("GET /shoal/v1/status", answer(s, s.Shoal.Status))
	s.mux.HandleFunc("GET /shoal/v1/images", answer(s, s.Shoal.Images))
	s.mux.HandleFunc("DELETE /shoal/v1/images", s.removeImage)
	s.mux.HandleFunc("POST /shoal/v1/images/pull", s.pullImage)
	s.mux.HandleFunc("POST /shoal/v1/images/load", s.loadImage)
	s.memberRoutes()
	s.planRoutes()
	s.dnsRoutes()
	s.keyRoutes()
}

func answer[T any](s *Server, get func(context.Context) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := get(r.Context())
		if err != nil {
			s.fail(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, v)
	}
}

var errNoRef = apierrors.NewBadRequest("parameter ref is missing: the image's name")

func (s *Server) removeImage(w http.ResponseWriter, r *http.Request) {
	ref := r.URL.Query().Get("ref")
	if ref == "" {
		s.fail(w, r, errNoRef)
		return
	}
	if err := s.Shoal.RemoveImage(r.Context(), ref); err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) pullImage(w http.ResponseWriter, r *http.Request) {
	ref := r.URL.Query().Get("ref")
	if ref == "" {
		s.fail(w, r, errNoRef)
		return
	}
	s.stream(w, r, func(progress func(Progress)) ([]Image, error) {
		image, err := s.Shoal.PullImage(r.Context(), ref, progress)
		return []Image{image}, err
	})
}

func (s *Server) loadImage(w http.ResponseWriter, r *http.Request) {
	// The body is the archive: as large as it likes, the store bounds it. It is
	// still read after the answer has begun.
	rc := http.NewResponseController(w)
	if err := rc.EnableFullDuplex(); err != nil {
		s.fail(w, r, err)
		return
	}
	s.stream(w, r, func(progress func(Progress)) ([]Image, error) {
		return s.Shoal.LoadImage(r.Context(), r.Body, progress)
	})
}

// stream answers with lines of ImageEvent while work goes on.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, work func(func(Progress)) ([]Image, error)) {
	select {
	case s.watches <- struct{}{}:
		defer func() { <-s.watches }()
	default:
		s.fail(w, r, busy("watches and streams"))
		return
	}
	w.Header().Set("Content-Type", "application/jsonl")
	out := &flushing{w: w, c: http.NewResponseController(w)}
	enc := json.NewEncoder(out)
	images, err := work(func(p Progress) {
		enc.Encode(ImageEvent{Progress: &p})
		out.flush()
	})
	if err != nil {
		enc.Encode(ImageEvent{Error: err.Error()})
		return
	}
	enc.Encode(ImageEvent{Images: images})
}

// NoSuchImage is RemoveImage's error for an image that is not there.
func NoSuchImage(ref string) error {
	return apierrors.NewNotFound(schema.GroupResource{Group: "shoal", Resource: "images"}, ref)
}

// ImageInUse is RemoveImage's error for an image that a pod needs.
func ImageInUse(ref, by string) error {
	return apierrors.NewConflict(schema.GroupResource{Group: "shoal", Resource: "images"}, ref, errors.New("in use by "+by))
}
