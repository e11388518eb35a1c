package plan

import (
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/nodelife"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

const (
	// horizon is how far a plan looks ahead.
	horizon = time.Hour
	// mostLooks bounds a plan that does not come to rest.
	mostLooks = 200_000
)

// world is a World that goes on by itself in virtual time.
type world struct {
	World
	start   time.Time
	kinds   map[schema.GroupKind]*objects
	own     map[string]*v1.Node // what each node says of itself
	lost    map[string]time.Time
	verdict map[string]nodelife.Verdict
	looks   map[manifests.Key]bool
	later   map[manifests.Key]time.Time
	life    time.Time // when nodes are looked at again; zero: no need to
	frozen  string
	spent   int // looks

	room    bool                 // something has changed that may make room
	made    []*made              // pods that were made here, in this order
	waiting map[types.UID]string // pods without a place, and why
	ill     map[string]bool      // groups of which no pod is ready from the beginning
	victims []victim
}

// victim is a pod that was ended here for another one.
type victim struct {
	pod *v1.Pod
	why string
	at  time.Time
}

// made is a pod that a plan brought about.
type made struct {
	pod    *v1.Pod
	at     time.Time // when it got its place; zero: it has none
	before bool      // it was there, without a place
}

func newWorld(w World) *world {
	s := &world{
		World: w, start: w.Now, kinds: make(map[schema.GroupKind]*objects),
		own: make(map[string]*v1.Node), lost: make(map[string]time.Time), verdict: make(map[string]nodelife.Verdict),
		looks: make(map[manifests.Key]bool), later: make(map[manifests.Key]time.Time),
		waiting: make(map[types.UID]string), ill: make(map[string]bool),
	}
	for kind, list := range w.Objects {
		s.kinds[kind] = newObjects(kind, list)
	}
	// Nodes are looked at when something is due, which Decide says apart.
	s.Config.NodeMonitorPeriod = 2 * horizon
	for _, m := range w.Members {
		s.own[m.Name], s.verdict[m.Name] = m.Object, m.Was
	}
	s.noteIll()
	return s
}

// noteIll finds the groups that have pods on nodes, and none that is ready.
func (s *world) noteIll() {
	well := make(map[string]bool)
	for _, p := range s.pods() {
		switch group := s.group(p); {
		case p.Spec.NodeName == "":
		case ready(p):
			well[group] = true
		default:
			s.ill[group] = true
		}
	}
	for group := range well {
		delete(s.ill, group)
	}
}

// Get implements workload.Objects.
func (s *world) Get(key manifests.Key) (view.Object, bool) {
	kind := s.kinds[key.GroupKind()]
	if kind == nil {
		return nil, false
	}
	o, ok := kind.byKey[key]
	return o, ok
}

// List implements workload.Objects. There are no versions here.
func (s *world) List(kind schema.GroupKind, namespace string) ([]view.Object, uint64) {
	return s.kinds[kind].in(namespace), 0
}

// all are the objects of a kind.
func all[T view.Object](s *world, kind schema.GroupKind) (list []T) {
	objects, _ := s.List(kind, "")
	for _, o := range objects {
		if t, ok := o.(T); ok {
			list = append(list, t)
		}
	}
	return list
}

func (s *world) pods() []*v1.Pod { return all[*v1.Pod](s, workload.KindPod) }

func podKey(p *v1.Pod) manifests.Key {
	return manifests.Key{Kind: workload.KindPod.Kind, Namespace: p.Namespace, Name: p.Name}
}

// put makes an object what it is from now on, nil: it is no more. Whoever is
// concerned looks again.
func (s *world) put(key manifests.Key, o view.Object) {
	old, _ := s.Get(key)
	if s.kinds[key.GroupKind()] == nil {
		s.kinds[key.GroupKind()] = newObjects(key.GroupKind(), nil)
	}
	s.kinds[key.GroupKind()].set(key, o)
	s.room = s.room || slices.Contains(makeRoom, key.GroupKind())
	for _, k := range workload.Affected(s, key, old, o) {
		s.looks[k] = true
	}
}

// makeRoom are the kinds whose changes may give a pod a place.
var makeRoom = []schema.GroupKind{workload.KindPod, workload.KindNode, workload.KindNamespace}

// settle has controllers decide, and pods be placed, until nobody wants more.
func (s *world) settle() {
	for s.spent < mostLooks {
		key, ok := s.next()
		if ok {
			s.spent++
			s.reconcile(key)
		} else if !s.place() {
			return
		}
	}
}

// next is whom to have look first, in the order in which a daemon does.
func (s *world) next() (next manifests.Key, ok bool) {
	first := 0
	for key := range s.looks {
		order, is := workload.Reconciled(key.GroupKind())
		if !is {
			delete(s.looks, key)
		} else if !ok || order < first || order == first && key.String() < next.String() {
			next, first, ok = key, order, true
		}
	}
	delete(s.looks, next)
	return next, ok
}

func (s *world) reconcile(key manifests.Key) {
	delete(s.later, key)
	out := workload.Reconcile(key, s.cluster())
	if !out.Again.IsZero() {
		s.later[key] = out.Again
	}
	for _, c := range out.Changes {
		kind := c.Object.GetObjectKind().GroupVersionKind()
		key := manifests.Key{Group: kind.Group, Kind: kind.Kind, Namespace: c.Object.GetNamespace(), Name: c.Object.GetName()}
		p, isPod := c.Object.(*v1.Pod)
		old, had := s.Get(key)
		switch {
		case isPod && c.Verb == workload.Delete:
			s.end(p)
		case c.Verb == workload.Forget:
			s.put(key, nil)
		case had && equality.Semantic.DeepEqual(old, c.Object):
		default:
			s.put(key, c.Object)
			if isPod && c.Verb == workload.Create {
				s.made = append(s.made, &made{pod: p})
			}
		}
	}
}

// cluster is what controllers look at.
func (s *world) cluster() workload.Cluster {
	return workload.Cluster{
		Objects: s, Now: s.Now, Chance: uint64(len(s.made)), UID: s.uid,
		Filed: func(key manifests.Key) bool { return s.Filed[key] },
		Gone:  func(*v1.Pod) bool { return true },
		Bound: s.bound,
		Admit: s.admit,
	}
}

// uid is the UID of the next pod that is made. Others rank nodes for it, where
// several are equally good, as its real UID will.
func (s *world) uid(key manifests.Key) types.UID {
	return types.UID(fmt.Sprintf("plan-%d-%s", len(s.made), key.String()))
}

// bound says whether whoever declared a pod named its node.
func (s *world) bound(p *v1.Pod) bool {
	declared := s.Declared[podKey(p)]
	return declared != nil && declared.Spec.NodeName != ""
}

// admit fills in what a new pod has from elsewhere, or says why it may not be.
func (s *world) admit(p *v1.Pod) error {
	account := manifests.Key{Kind: "ServiceAccount", Namespace: p.Namespace, Name: p.Spec.ServiceAccountName}
	if _, ok := s.Get(account); !ok && s.Declared[podKey(p)] == nil {
		return fmt.Errorf("serviceaccount %q not found", account.Name)
	}
	if err := s.complete(p); err != nil {
		return err
	}
	if s.Refuse == nil {
		return nil
	}
	var labels map[string]string
	if ns, ok := s.Get(manifests.Key{Kind: workload.KindNamespace.Kind, Name: p.Namespace}); ok {
		labels = ns.GetLabels()
	}
	if why := s.Refuse(labels, p); why != "" {
		return fmt.Errorf("%s", why)
	}
	return nil
}

func (s *world) complete(p *v1.Pod) error {
	nodelife.Tolerate(&p.Spec, s.Config.PodEvictionTimeout)
	return workload.Prioritize(p, all[*schedulingv1.PriorityClass](s, workload.KindPriorityClass))
}

// end ends a pod: nothing of it is left from now on. One that a person's file
// declares is made anew; what the API wrote goes with its pod.
func (s *world) end(p *v1.Pod) {
	key := podKey(p)
	delete(s.waiting, p.UID)
	s.put(key, nil)
	declared := s.Declared[key]
	if declared == nil || !s.Filed[key] {
		return
	}
	in := workload.Input{Declared: map[manifests.Key]*v1.Pod{key: declared}, Now: s.Now, UID: s.uid, Complete: s.complete}
	for _, d := range workload.DeclaredPods(in) {
		s.made = append(s.made, &made{pod: d.Pod})
		s.put(key, d.Pod)
	}
}

// follow lets time pass until nothing is due any more, or beyond the horizon.
func (s *world) follow() {
	for {
		s.lookAtNodes()
		for key, at := range s.later {
			if !at.After(s.Now) {
				delete(s.later, key)
				s.looks[key] = true
			}
		}
		s.settle()
		next := s.life
		for _, at := range s.later {
			if next.IsZero() || at.Before(next) {
				next = at
			}
		}
		if next.IsZero() || next.After(s.start.Add(horizon)) || s.spent >= mostLooks {
			return
		}
		if next.After(s.Now) {
			s.Now = next
		}
	}
}

func ready(p *v1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.PodReady && c.Status == v1.ConditionTrue
	})
}

// owner is a pod's topmost controller as Kind/name, "" for a pod without.
func (s *world) owner(p *v1.Pod) string {
	ref := metav1.GetControllerOf(p)
	if ref == nil {
		return ""
	}
	top := ref.Kind + "/" + ref.Name
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if o, ok := s.Get(manifests.Key{Group: gv.Group, Kind: ref.Kind, Namespace: p.Namespace, Name: ref.Name}); err == nil && ok {
		if above := metav1.GetControllerOf(o); above != nil {
			top = above.Kind + "/" + above.Name
		}
	}
	return top
}

// group is what a pod is one of: its owner's pods, or itself.
func (s *world) group(p *v1.Pod) string {
	owner := s.owner(p)
	if owner == "" {
		owner = "Pod/" + p.Name
	}
	return p.Namespace + "/" + owner
}
