package workload

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// sim plays the view, the loop that carries out what controllers decide, and,
// by its tests' word, the hosts that run the pods. Time stands still in between.
type sim struct {
	t       testing.TB
	objects map[manifests.Key]view.Object
	dirty   map[manifests.Key]bool
	later   map[manifests.Key]time.Time
	gone    map[types.UID]bool
	filed   map[manifests.Key]bool
	refused string
	now     time.Time
	count   uint64
	shuffle *rand.Rand // lists come in any order
	out     strings.Builder
}

func newSim(t testing.TB) *sim {
	s := &sim{
		t: t, objects: map[manifests.Key]view.Object{}, dirty: map[manifests.Key]bool{}, later: map[manifests.Key]time.Time{},
		gone: map[types.UID]bool{}, filed: map[manifests.Key]bool{}, now: now,
	}
	s.node("n1")
	return s
}

func (s *sim) node(name string) {
	n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{v1.LabelHostname: name}}}
	s.put(n)
}

func (s *sim) Get(key manifests.Key) (view.Object, bool) {
	o, ok := s.objects[key]
	return o, ok
}

func (s *sim) List(kind schema.GroupKind, namespace string) ([]view.Object, uint64) {
	var list []view.Object
	for key, o := range s.objects {
		if key.GroupKind() == kind && (namespace == "" || key.Namespace == namespace) {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b view.Object) int { return cmp.Compare(a.GetName(), b.GetName()) })
	if s.shuffle != nil {
		s.shuffle.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	return list, 0
}

// put makes an object what it is from now on, and has those look that should.
func (s *sim) put(o view.Object) {
	key := keyOf(o)
	old := s.objects[key]
	if old != nil && equality.Semantic.DeepEqual(old, o) {
		return
	}
	s.objects[key] = o
	s.affected(key, old, o)
}

func (s *sim) drop(key manifests.Key) {
	old := s.objects[key]
	delete(s.objects, key)
	s.affected(key, old, nil)
}

func (s *sim) affected(key manifests.Key, old, now view.Object) {
	for _, k := range Affected(s, key, old, now) {
		s.dirty[k] = true
	}
}

// apply declares objects, as files or clients do.
func (s *sim) apply(text string) {
	for doc := range strings.SplitSeq(text, "---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var tm metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(doc), &tm); err != nil {
			s.t.Fatal(err)
		}
		obj, err := manifests.Scheme.New(tm.GroupVersionKind())
		if err != nil {
			s.t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict([]byte(doc), obj); err != nil {
			s.t.Fatal(err)
		}
		manifests.Default(obj)
		if errs := manifests.Validate(obj); len(errs) > 0 && tm.Kind != "Node" {
			s.t.Fatal(errs)
		}
		s.declare(obj.(view.Object))
	}
}

func (s *sim) declare(o view.Object) {
	key := keyOf(o)
	old, had := s.objects[key]
	if !had {
		s.count++
		o.SetUID(types.UID(fmt.Sprintf("%s-%d", strings.ToLower(key.Kind), s.count)))
		o.SetCreationTimestamp(metav1.NewTime(s.now))
		o.SetGeneration(1)
		s.put(o)
		return
	}
	o.SetUID(old.GetUID())
	o.SetCreationTimestamp(old.GetCreationTimestamp())
	o.SetGeneration(old.GetGeneration() + 1)
	switch o := o.(type) {
	case *apps.Deployment:
		o.Status = old.(*apps.Deployment).Status
		if r, ok := old.GetAnnotations()[AnnotationRevision]; ok {
			setAnnotation(o, AnnotationRevision, r)
		}
	case *apps.ReplicaSet:
		o.Status = old.(*apps.ReplicaSet).Status
	case *apps.DaemonSet:
		o.Status = old.(*apps.DaemonSet).Status
	case *policy.PodDisruptionBudget:
		o.Status = old.(*policy.PodDisruptionBudget).Status
	}
	s.put(o)
}

func (s *sim) cluster() Cluster {
	s.count++
	minted := 0
	return Cluster{
		Objects: s, Now: s.now, Chance: s.count,
		UID: func(key manifests.Key) types.UID {
			minted++
			return types.UID(fmt.Sprintf("%s-%d-%d", strings.ToLower(key.Kind), s.count, minted))
		},
		Filed: func(key manifests.Key) bool { return s.filed[key] },
		Gone:  func(p *v1.Pod) bool { return s.gone[p.UID] },
		Admit: func(*v1.Pod) error {
			if s.refused != "" {
				return fmt.Errorf("%s", s.refused)
			}
			return nil
		},
	}
}

// reconcile lets controllers decide until none wants anything more.
func (s *sim) reconcile() {
	for key, at := range s.later {
		if !at.After(s.now) {
			delete(s.later, key)
			s.dirty[key] = true
		}
	}
	for n := 0; len(s.dirty) > 0; n++ {
		if n > 5000 {
			s.t.Fatalf("never at rest:\n%s", s.state())
		}
		var next manifests.Key
		first := 99
		for key := range s.dirty {
			if order, is := Reconciled(key.GroupKind()); !is {
				delete(s.dirty, key)
			} else if order < first || order == first && key.String() < next.String() {
				next, first = key, order
			}
		}
		if first == 99 {
			return
		}
		delete(s.dirty, next)
		delete(s.later, next)
		s.carryOut(next, Reconcile(next, s.cluster()))
	}
}

func (s *sim) carryOut(key manifests.Key, out Outcome) {
	if !out.Again.IsZero() {
		s.later[key] = out.Again
		if !out.Again.After(s.now) {
			s.dirty[key] = true
		}
	}
	for _, e := range out.Events {
		fmt.Fprintf(&s.out, "%-6s %s/%s %s: %s\n", s.clock(), keyOf(e.About).Kind, e.About.GetName(), e.Reason, e.Message)
	}
	for _, c := range out.Changes {
		key := keyOf(c.Object)
		_, had := s.objects[key]
		switch c.Verb {
		case Forget:
			fmt.Fprintf(&s.out, "%-6s forget %s/%s\n", s.clock(), key.Kind, key.Name)
			s.drop(key)
		case Create:
			if had {
				s.t.Fatalf("%s is made twice", key)
			}
			if p, ok := c.Object.(*v1.Pod); ok && p.Spec.NodeName == "" { // the placement has room for all
				p = p.DeepCopy()
				p.Spec.NodeName = cmp.Or(meantFor(p), s.room())
				c.Object = p
			}
			s.put(c.Object)
		case Status:
			s.putStatus(key, c.Object)
		default:
			if !had {
				s.t.Fatalf("%s %s, which is not there", c.Verb, key)
			}
			s.put(c.Object)
		}
	}
}

// putStatus takes nothing but the status and the controller's annotation, as the
// record does.
func (s *sim) putStatus(key manifests.Key, of view.Object) {
	o, ok := s.objects[key]
	if !ok {
		return
	}
	o = o.DeepCopyObject().(view.Object)
	switch o := o.(type) {
	case *apps.Deployment:
		o.Status = of.(*apps.Deployment).Status
		if r, ok := of.GetAnnotations()[AnnotationRevision]; ok {
			setAnnotation(o, AnnotationRevision, r)
		}
	case *apps.ReplicaSet:
		o.Status = of.(*apps.ReplicaSet).Status
	case *apps.DaemonSet:
		o.Status = of.(*apps.DaemonSet).Status
	case *policy.PodDisruptionBudget:
		o.Status = of.(*policy.PodDisruptionBudget).Status
	}
	s.put(o)
}

func (s *sim) clock() string { return s.now.Sub(now).String() }

func (s *sim) pods() []*v1.Pod {
	var pods []*v1.Pod
	for _, o := range s.objects {
		if p, ok := o.(*v1.Pod); ok {
			pods = append(pods, p)
		}
	}
	slices.SortFunc(pods, func(a, b *v1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return pods
}

// setReady is what a pod's host publishes.
func (s *sim) setReady(p *v1.Pod, ready bool) {
	p = p.DeepCopy()
	p.Status.Phase = v1.PodRunning
	status := v1.ConditionFalse
	if ready {
		status = v1.ConditionTrue
	}
	for _, c := range p.Status.Conditions {
		if c.Type == v1.PodReady && c.Status == status {
			return
		}
	}
	p.Status.Conditions = []v1.PodCondition{{Type: v1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(s.now)}}
	s.put(p)
}

func (s *sim) setPhase(p *v1.Pod, phase v1.PodPhase) {
	p = p.DeepCopy()
	p.Status.Phase, p.Status.Conditions = phase, nil
	s.put(p)
}

// room is the first node that is not lost.
func (s *sim) room() string {
	for _, name := range []string{"n1", "n2"} {
		if o, ok := s.objects[nodeKey(name)]; ok && !Unreachable(o.(*v1.Node)) {
			return name
		}
	}
	return "n1"
}

func nodeKey(name string) manifests.Key { return manifests.Key{Kind: KindNode.Kind, Name: name} }

// lose is what nodelife makes of a node that is lost, or of one that is back.
func (s *sim) lose(name string, lost bool) {
	node := s.objects[nodeKey(name)].(*v1.Node).DeepCopy()
	node.Spec.Taints = nil
	node.Status.Conditions = []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue}}
	if lost {
		since := metav1.NewTime(s.now)
		node.Status.Conditions[0].Status = v1.ConditionUnknown
		node.Spec.Taints = []v1.Taint{{Key: v1.TaintNodeUnreachable, Effect: v1.TaintEffectNoExecute, TimeAdded: &since}}
	}
	s.put(node)
}

// end lets the pods that are being deleted be gone.
func (s *sim) end() {
	for _, p := range s.pods() {
		if p.DeletionTimestamp != nil {
			s.gone[p.UID] = true
			s.dirty[keyOf(p)] = true
		}
	}
}

// state is everything in lines, but for what a story does not vary.
func (s *sim) state() string {
	var lines []string
	for key, o := range s.objects {
		switch o := o.(type) {
		case *apps.Deployment:
			t := o.Status
			line := fmt.Sprintf("deployment %s rev=%s gen=%d/%d replicas=%d updated=%d ready=%d available=%d unavailable=%d terminating=%d", o.Name, o.Annotations[AnnotationRevision],
				t.ObservedGeneration, o.Generation, t.Replicas, t.UpdatedReplicas, t.ReadyReplicas, t.AvailableReplicas, t.UnavailableReplicas, *t.TerminatingReplicas)
			for _, c := range t.Conditions {
				line += fmt.Sprintf(" %s=%s/%s", c.Type, c.Status, c.Reason)
			}
			lines = append(lines, line)
		case *apps.ReplicaSet:
			line := fmt.Sprintf("replicaset %s rev=%s want=%d has=%d ready=%d available=%d", o.Name, o.Annotations[AnnotationRevision], *o.Spec.Replicas, o.Status.Replicas, o.Status.ReadyReplicas, o.Status.AvailableReplicas)
			if h := o.Annotations[annotationHistory]; h != "" {
				line += " history=" + h
			}
			for _, c := range o.Status.Conditions {
				line += fmt.Sprintf(" %s=%s/%s", c.Type, c.Status, c.Reason)
			}
			if metav1.GetControllerOf(o) == nil {
				line += " alone"
			}
			lines = append(lines, line)
		case *apps.DaemonSet:
			t := o.Status
			lines = append(lines, fmt.Sprintf("daemonset %s desired=%d current=%d ready=%d updated=%d available=%d unavailable=%d misscheduled=%d", o.Name,
				t.DesiredNumberScheduled, t.CurrentNumberScheduled, t.NumberReady, t.UpdatedNumberScheduled, t.NumberAvailable, t.NumberUnavailable, t.NumberMisscheduled))
		case *apps.ControllerRevision:
			lines = append(lines, fmt.Sprintf("revision %s %d", o.Name, o.Revision))
		case *policy.PodDisruptionBudget:
			t := o.Status
			lines = append(lines, fmt.Sprintf("budget %s allowed=%d healthy=%d/%d of %d", o.Name, t.DisruptionsAllowed, t.CurrentHealthy, t.DesiredHealthy, t.ExpectedPods))
		case *v1.Pod:
			line := fmt.Sprintf("pod %s on %s image=%s", o.Name, o.Spec.NodeName, o.Spec.Containers[0].Image)
			if ref := metav1.GetControllerOf(o); ref == nil {
				line += " alone"
			} else if _, ok := s.objects[manifests.Key{Group: "apps", Kind: ref.Kind, Namespace: key.Namespace, Name: ref.Name}]; !ok {
				line += " of " + ref.Name + ", which is gone"
			}
			if o.DeletionTimestamp != nil {
				line += " deleting"
			}
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}
