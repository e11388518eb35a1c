package workload

import (
	"fmt"
	"hash/fnv"
	"time"

	v1 "k8s.io/api/core/v1"
	node "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
	"k8s.io/utils/dump"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// maxPrefix is how much of an owner's name a pod's can hold: it is a host name
// too, of 63 bytes, and ends with a suffix (apiserver's names.SimpleNameGenerator).
const maxPrefix = 58

// alphabet is what generated names are made of: no vowels and nothing that is
// mistaken for one, so that no words come out (k8s.io/apimachinery's util/rand).
const alphabet = "bcdfghjklmnpqrstvwxz2456789"

// podName is a name for a new pod that no other has. Index tells apart the pods
// that are made in one call.
func (c Cluster) podName(owner view.Object, index int) string {
	prefix := owner.GetName() + "-"
	prefix = prefix[:min(len(prefix), maxPrefix)]
	for try := 0; ; try++ {
		h := fnv.New64a()
		fmt.Fprintf(h, "%s %d %d %d", owner.GetUID(), c.Chance, index, try)
		var suffix [5]byte
		for i, n := 0, h.Sum64(); i < len(suffix); i, n = i+1, n/uint64(len(alphabet)) {
			suffix[i] = alphabet[n%uint64(len(alphabet))]
		}
		name := prefix + string(suffix[:])
		if _, taken := c.Objects.Get(manifests.Key{Kind: "Pod", Namespace: owner.GetNamespace(), Name: name}); !taken {
			return name
		}
	}
}

// newPod is a pod made after a template (upstream's GetPodFromTemplate), and as
// admission would complete it.
func (c Cluster) newPod(template *v1.PodTemplateSpec, owner view.Object, kind schema.GroupKind, index int) *v1.Pod {
	template = template.DeepCopy()
	p := &v1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Spec: template.Spec}
	p.Namespace = owner.GetNamespace()
	p.GenerateName = owner.GetName() + "-"
	p.Name = c.podName(owner, index)
	p.Labels, p.Annotations = template.Labels, unmarked(template.Annotations)
	p.OwnerReferences = []metav1.OwnerReference{*controllerRef(owner, kind)}
	manifests.Default(p)
	p.UID = c.UID(manifests.Key{Kind: "Pod", Namespace: p.Namespace, Name: p.Name})
	p.CreationTimestamp = metav1.NewTime(c.Now.Truncate(time.Second))
	p.Generation = 1
	account, _ := c.Objects.Get(manifests.Key{Kind: "ServiceAccount", Namespace: p.Namespace, Name: p.Spec.ServiceAccountName})
	of, _ := account.(*v1.ServiceAccount)
	MountToken(p, of)
	if name := p.Spec.RuntimeClassName; name != nil {
		class, _ := c.Objects.Get(manifests.Key{Group: KindRuntimeClass.Group, Kind: KindRuntimeClass.Kind, Name: *name})
		of, _ := class.(*node.RuntimeClass)
		_ = ApplyRuntimeClass(p, of) // Admit says so of an error
	}
	p.Status = v1.PodStatus{Phase: v1.PodPending, QOSClass: qos.ComputePodQOS(p)}
	return p
}

// createPod decides on one new pod, and says so, or why not.
func (c Cluster) createPod(out *Outcome, p *v1.Pod, owner view.Object) error {
	if c.Admit != nil {
		if err := c.Admit(p); err != nil {
			out.event(owner, v1.EventTypeWarning, "FailedCreate", "Error creating: "+err.Error())
			return err
		}
	}
	out.change(Create, p)
	out.event(owner, v1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+p.Name)
	return nil
}

func (c Cluster) deletePod(out *Outcome, p *v1.Pod, owner view.Object) {
	out.change(Delete, deleted(p, c.Now))
	out.event(owner, v1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+p.Name)
}

// refusedAgain is how long after a pod was refused the next is tried: what
// refused it may have changed without an object's changing.
const refusedAgain = 30 * time.Second

// failedAgain is how old a pod that failed must be before the next takes its
// place. Upstream's daemon set controller backs off from one second; here the
// host that failed it may be the only one, and would be kept busy with failing.
const failedAgain = 10 * time.Second

// Pods that failed stay to be looked at. One that the host refuses, say, would
// fail again each time: the wait doubles with each that was made within
// failedWindow, up to failedLongest.
const (
	failedLongest = 5 * time.Minute
	failedWindow  = 30 * time.Minute
)

// replaceAt is when the next pod takes the place of one that failed, by when
// those that did were made.
func (c Cluster) replaceAt(failed []time.Time) (at time.Time) {
	var newest time.Time
	wait := failedAgain / 2
	for _, made := range failed {
		if made.After(newest) {
			newest = made
		}
		if c.Now.Sub(made) < failedWindow && wait < failedLongest {
			wait *= 2
		}
	}
	return newest.Add(min(max(wait, failedAgain), failedLongest))
}

// templateHash is upstream's hash of a template (controller.ComputeHash): the
// same template has the same name on a cluster and here.
func templateHash(template *v1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%v", dump.ForHash(*template))
	if collisions != nil {
		n := uint32(*collisions)
		h.Write([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24), 0, 0, 0, 0})
	}
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}
