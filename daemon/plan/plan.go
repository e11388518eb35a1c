// Package plan says what would happen before it does: which pods of hosts that
// are lost, or drained, would run where, and which would not run, and why.
//
// It decides nothing by itself. A copy of what a node knows is carried on in
// virtual time by the functions that decide about the cluster (daemon/nodelife,
// daemon/workload, daemon/placement), as if the hosts had just gone; what they
// decide is carried out at once, and every new pod becomes ready as soon as it
// has a place, unless none of those that it is like are. So a plan knows neither
// how long a pod takes to start nor that its image can't be had; and where
// several nodes are equally good for a pod, another one may be taken in earnest.
package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/nodelife"
	"github.com/shoal-project/shoal/daemon/placement"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// World is what a node knows of its cluster. Planning changes nothing in it.
type World struct {
	Now     time.Time
	Objects map[schema.GroupKind][]view.Object
	// Members are those that were not forgotten, with what each says of itself and
	// what is said of it (nodelife.Input).
	Members []nodelife.Node
	Leaving map[string]bool // members that are on their way out: no pod is placed there
	Memory  nodelife.Memory // of the last nodelife.Outcome
	Config  nodelife.Config
	// Suspicion is how long Serf suspects a silent member before it says that it
	// failed.
	Suspicion time.Duration
	Declared  map[manifests.Key]*v1.Pod // the pods that files declare, or the API wrote
	Filed     map[manifests.Key]bool    // what people's files declare: it outlives its eviction
	Strategy  placement.Strategy
	// Refuse says why a new pod may not be (its namespace's standards), "" if it may.
	Refuse func(namespace map[string]string, p *v1.Pod) string
}

// What a plan is about.
const (
	Lose  = "lose"
	Drain = "drain"
)

// Fates of a pod.
const (
	Moves   = "moves"   // it, or one in its place, runs elsewhere
	Pending = "pending" // the one in its place finds no node
	Down    = "down"    // it is not replaced while its host is lost
	Ends    = "ends"    // it goes, and nobody makes another
	Surplus = "surplus" // it goes, and those that are left are enough
	Stays   = "stays"   // a drain leaves it where it is
	Returns = "returns" // it is drained, and the one in its place comes to the same hosts
	Blocked = "blocked" // a drain waits for it for ever
)

// Outcome is what would happen.
type Outcome struct {
	Action string   `json:"action"` // "lose" or "drain"
	Nodes  []string `json:"nodes"`
	// Left and Members are how many members would be in sight, of all that neither
	// left nor were forgotten. With less than half nobody is evicted.
	Left    int    `json:"left"`
	Members int    `json:"members"`
	Frozen  string `json:"frozen,omitempty"` // why nothing would be started elsewhere
	// OK says that all would run on that is not bound to the hosts by its nature
	// (daemon sets' pods, static ones); or that the drain would come to its end.
	OK        bool       `json:"ok"`
	Pods      []Pod      `json:"pods"`
	Workloads []Workload `json:"workloads,omitempty"` // those with a pod among these
	Budgets   []Budget   `json:"budgets,omitempty"`   // those about a pod among these
	Flags     []string   `json:"flags,omitempty"`     // what `shoal drain` would ask for
	Notes     []string   `json:"notes,omitempty"`
}

// Pod is what becomes of one pod.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Owner     string `json:"owner,omitempty"` // its topmost controller, as Kind/name
	Node      string `json:"node"`
	Fate      string `json:"fate"`
	To        string `json:"to,omitempty"` // the other node
	// After is when that is decided, in seconds after the hosts went silent. The
	// pod's start comes on top.
	After *float64 `json:"after,omitempty"`
	Why   string   `json:"why,omitempty"`
	// Natural says that the pod belongs to its host: a daemon set's or a static one.
	Natural bool `json:"natural,omitempty"`
}

// Workload is a controller's pods that are ready: now, when the hosts have just
// gone, and in the end.
type Workload struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"` // Kind/name
	Desired   int    `json:"desired"`
	Now       int    `json:"now"`
	Least     int    `json:"least"`
	After     int    `json:"after"`
}

// Budget is the same of a PodDisruptionBudget's pods.
type Budget struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Desired   int    `json:"desired"` // how many healthy ones it wants
	Now       int    `json:"now"`
	Least     int    `json:"least"`
	After     int    `json:"after"`
}

// UnknownNodeError says that there is no such node.
type UnknownNodeError struct {
	Name  string
	Known []string
}

func (e *UnknownNodeError) Error() string {
	return fmt.Sprintf("no node %s: there are %s", e.Name, strings.Join(e.Known, ", "))
}

// check refuses names of no node.
func (w World) check(nodes []string) error {
	var known []string
	for _, o := range w.Objects[schema.GroupKind{Kind: "Node"}] {
		known = append(known, o.GetName())
	}
	for _, name := range nodes {
		if !slices.Contains(known, name) {
			return &UnknownNodeError{name, known}
		}
	}
	return nil
}

// LoseEach is what the loss of each node alone would do, in the order of names.
func LoseEach(ctx context.Context, w World) (list []Outcome, err error) {
	for _, o := range w.Objects[schema.GroupKind{Kind: "Node"}] {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out, err := LoseNodes(w, o.GetName())
		if err != nil {
			return nil, err
		}
		list = append(list, out)
	}
	return list, nil
}
