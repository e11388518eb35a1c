package view

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/steward"
)

// Said is the value of an entry in one node's record, and the entry's stamp.
type Said struct {
	Value json.RawMessage
	Stamp record.Stamp
}

// InTerm is a decision's value, or that of a controller's status, as of a term:
// a field "term" beside the object's own. Versions without terms skip it, and
// what a newer version has beside it stays. A nil value is the decision that
// there is no object.
func InTerm(value json.RawMessage, term uint64) (json.RawMessage, error) {
	fields := make(map[string]json.RawMessage)
	if value != nil {
		if err := json.Unmarshal(value, &fields); err != nil {
			return nil, fmt.Errorf("put a term to a decision: %w", err)
		}
	}
	delete(fields, "term")
	if term > 0 {
		fields["term"] = fmt.Appendf(nil, "%d", term)
	}
	return json.Marshal(fields)
}

// decided is what there is to know of a decision to settle it.
type decided struct {
	Term     uint64                    `json:"term"`
	Metadata struct{ UID types.UID }   `json:"metadata"`
	Spec     struct{ NodeName string } `json:"spec"`
}

// Decided is what the records decide on the key, in the order of their nodes'
// names, and which bindings the pods' nodes admitted (daemon/steward). Decisions
// that can't be read do not count; they are the error.
func (e Entries) Decided() ([]steward.Decision, map[steward.Binding]bool, error) {
	var all []steward.Decision
	var errs []error
	for _, node := range slices.Sorted(maps.Keys(e.Decisions)) {
		var d decided
		if err := json.Unmarshal(e.Decisions[node].Value, &d); err != nil {
			errs = append(errs, fmt.Errorf("decision by %s: %w", node, err))
			continue
		}
		all = append(all, steward.Decision{
			Steward: node, Term: d.Term, Stamp: e.Decisions[node].Stamp, UID: string(d.Metadata.UID), Node: d.Spec.NodeName,
		})
	}
	admitted := make(map[steward.Binding]bool)
	for node, said := range e.Status {
		var s PodStatus
		if json.Unmarshal(said.Value, &s) == nil && s.Admitted() {
			admitted[steward.Binding{UID: string(s.UID), Node: node}] = true
		}
	}
	return all, admitted, errors.Join(errs...)
}

// counts is the node whose decision on the key counts; "" when there is none.
func (e Entries) counts() (node string, err error) {
	if len(e.Decisions) == 1 {
		for node := range e.Decisions {
			return node, nil
		}
	}
	if len(e.Decisions) == 0 {
		return "", nil
	}
	all, admitted, err := e.Decided()
	d, ok := steward.Settle(all, admitted)
	if !ok {
		return "", err
	}
	return d.Steward, nil
}

// Told is what the records say of the status of an object with a controller, in
// the order of their nodes' names: as decisions, of which steward.Settle says
// which counts. What is about another object of that name is left out.
func (e Entries) Told(uid types.UID) ([]steward.Decision, error) {
	var all []steward.Decision
	var errs []error
	for _, node := range slices.Sorted(maps.Keys(e.Status)) {
		var s struct {
			Term uint64    `json:"term"`
			UID  types.UID `json:"uid"`
		}
		if err := json.Unmarshal(e.Status[node].Value, &s); err != nil {
			errs = append(errs, fmt.Errorf("status by %s: %w", node, err))
			continue
		}
		if s.UID == uid {
			all = append(all, steward.Decision{Steward: node, Term: s.Term, Stamp: e.Status[node].Stamp, UID: string(uid)})
		}
	}
	return all, errors.Join(errs...)
}

// teller is the node whose word on the status of an object with a controller
// counts; "" when nobody says anything of it.
func (e Entries) teller(uid types.UID) (node string, err error) {
	if len(e.Status) == 1 {
		for node := range e.Status {
			return node, nil
		}
	}
	if len(e.Status) == 0 {
		return "", nil
	}
	all, err := e.Told(uid)
	d, ok := steward.Settle(all, nil)
	if !ok {
		return "", err
	}
	return d.Steward, nil
}

// PodStatus is the value of a pod's entry in section Status: what its node, or,
// while it has none, its steward says of it.
type PodStatus struct {
	UID    types.UID    `json:"uid"` // of the pod that it is about
	Status v1.PodStatus `json:"status"`
	// Gone says that nothing of the pod is left on its node. The node says so until
	// the decision on the pod is forgotten.
	Gone bool `json:"gone,omitempty"`
	// Preempts are the pods that have to make room for this one, which has no node
	// yet: whoever decides about them ends them.
	Preempts []Victim `json:"preempts,omitempty"`
}

// Victim is a pod that has to make room for another.
type Victim struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
}

// Admitted says whether the node has taken the pod in: it says since when it
// runs it, as a node does of no pod that it refused.
func (s PodStatus) Admitted() bool { return s.Status.StartTime != nil || s.Gone }

// Refused says whether the node has refused the pod, in words that it is asked
// to take to another node (see the kubelet's rejected pods).
func (s PodStatus) Refused() bool { return !s.Admitted() && s.Status.Phase == v1.PodFailed }
