package view

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
)

// UID is an object's UID: the same on every node that knows the same key and
// the same birth, and another one after the object was deleted and made again.
//
// It does not depend on the cluster's id: that may change when hosts meet, and
// no pod is to be replaced for it.
func UID(key manifests.Key, born record.Stamp) types.UID {
	return uid(fmt.Appendf(nil, "%s %d", key, born))
}

// ChildUID is the UID of an object that a controller makes under a name which
// follows from what it is to be: two stewards that make it, each before it knew
// of the other, make the same one.
func ChildUID(key manifests.Key, owner types.UID) types.UID {
	return uid(fmt.Appendf(nil, "%s of %s", key, owner))
}

func uid(of []byte) types.UID {
	sum := sha256.Sum256(of)
	id, _ := uuid.FromBytes(sum[:16])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // RFC 9562 version 8, its variant
	return types.UID(id.String())
}

// Entries is what all records say of one key, by node.
type Entries struct {
	Claims    map[string]record.Claim
	Decisions map[string]Said
	Status    map[string]Said
}

// Collect gathers what the records say of a key. A claim that can't be read
// (a newer format) is an error that names its node.
func Collect(records map[string]*record.Record, key manifests.Key, read func(manifests.Key, json.RawMessage) (record.Claim, error)) (Entries, error) {
	e := Entries{Claims: map[string]record.Claim{}, Decisions: map[string]Said{}, Status: map[string]Said{}}
	for node, r := range records {
		text := key.String()
		if v := r.Entries[record.Name{Section: record.Claims, Key: text}].Value; v != nil {
			c, err := read(key, v)
			if err != nil {
				return e, fmt.Errorf("claim of %s by %s: %w", key, node, err)
			}
			e.Claims[node] = c
		}
		if v := r.Entries[record.Name{Section: record.Decisions, Key: text}]; v.Value != nil {
			e.Decisions[node] = Said{v.Value, v.Stamp}
		}
		if v := r.Entries[record.Name{Section: record.Status, Key: text}]; v.Value != nil {
			e.Status[node] = Said{v.Value, v.Stamp}
		}
	}
	return e, nil
}

// Declared is the object that the winning claim declares, defaulted, with its
// UID; nil when no claim counts.
func Declared(key manifests.Key, claims map[string]record.Claim) (Object, error) {
	node, claim := record.Winner(claims)
	if node == "" {
		return nil, nil
	}
	obj, err := manifests.FromDeclared(claim.Declared)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", claim.File, node, err)
	}
	o, ok := obj.(Object)
	if !ok {
		return nil, fmt.Errorf("%s of %s: %T has no metadata", claim.File, node, obj)
	}
	born := record.Born(claims)
	o.SetUID(UID(key, born))
	o.SetCreationTimestamp(metav1.NewTime(born.Time()))
	o.SetGeneration(record.Generation(claims))
	if key.Namespace != "" {
		o.SetNamespace(key.Namespace)
	}
	return o, nil
}

// Fold is the object of a key, from what all records say of it: for pods what
// was decided, with the status of the node that runs it; for nodes what the
// node says; for all else what a controller decided or, where none did, what is
// declared, with the status that its controller published. It is nil when there
// is none.
func Fold(key manifests.Key, e Entries) (Object, error) {
	switch key.GroupKind().String() {
	case "Pod":
		return foldPod(key, e)
	case "Node":
		said, ok := e.Status[key.Name]
		if !ok {
			return nil, nil
		}
		node := &v1.Node{}
		return node, decode(said.Value, node, "Node")
	}
	o, err := foldControlled(key, e)
	if ns, ok := o.(*v1.Namespace); ok && err == nil {
		ns.Status.Phase = v1.NamespaceActive
	}
	return o, err
}

// foldPod is the decision that counts, with the status of whoever has the pod:
// its node, and while it has none, who looks for one.
func foldPod(key manifests.Key, e Entries) (Object, error) {
	node, err := e.counts()
	if node == "" || err != nil {
		return nil, err
	}
	pod := &v1.Pod{}
	if err := decode(e.Decisions[node].Value, pod, "Pod"); err != nil {
		return nil, fmt.Errorf("decision on %s by %s: %w", key, node, err)
	}
	if pod.UID == "" {
		return nil, nil
	}
	if said, ok := e.Status[cmp.Or(pod.Spec.NodeName, node)]; ok {
		var s PodStatus
		if err := json.Unmarshal(said.Value, &s); err != nil {
			return nil, fmt.Errorf("status of %s: %w", key, err)
		}
		if s.UID == pod.UID {
			pod.Status = withDisruption(s.Status, pod.Status)
		}
	}
	return pod, nil
}

// withDisruption is a pod's status with the condition DisruptionTarget of its
// decision: whoever decides that it has to go says why in the same step, and its
// node, which may have been lost, follows.
func withDisruption(s, decided v1.PodStatus) v1.PodStatus {
	is := func(c v1.PodCondition) bool { return c.Type == v1.DisruptionTarget }
	i := slices.IndexFunc(decided.Conditions, is)
	if i >= 0 && !slices.ContainsFunc(s.Conditions, is) {
		s.Conditions = append(s.Conditions, decided.Conditions[i])
	}
	return s
}

func decode(data []byte, into runtime.Object, kind string) error {
	if err := json.Unmarshal(data, into); err != nil {
		return err
	}
	into.GetObjectKind().SetGroupVersionKind(v1.SchemeGroupVersion.WithKind(kind))
	return nil
}
