package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// An eviction is granted by who decides about the pod's budget, and carried out by
// who decides about the pod: two of these would both grant the last disruption.

// evictionsPath is where a node is asked for a grant.
const evictionsPath = "/shoal/v1/evictions"

// grantTime is how long the answer may take.
const grantTime = 10 * time.Second

// eviction asks for a grant.
type eviction struct {
	Budget string    `json:"budget"`
	Pod    string    `json:"pod"`
	UID    types.UID `json:"uid"`
	DryRun bool      `json:"dryRun,omitempty"`
}

// mayEvict gets the grant that a pod's eviction needs; nil where it needs none.
func (d *Daemon) mayEvict(ctx context.Context, key manifests.Key, dryRun bool) error {
	var ask *eviction
	var node string
	var err error
	look := func() {
		o, exists := d.view.Get(key)
		if !exists {
			err = apierrors.NewNotFound(resourceOf(key), key.Name)
			return
		}
		pdb, e := d.controllersSee(d.Now()).BudgetOf(o.(*v1.Pod))
		if e != nil {
			err = apierrors.NewInternalError(e)
			return
		}
		if pdb != nil {
			budget := budgetKey(pdb)
			ask = &eviction{Budget: budget.String(), Pod: key.String(), UID: o.GetUID(), DryRun: dryRun}
			node = d.stewardOf(budget)
		}
	}
	if e := d.do(ctx, look); e != nil {
		return e
	}
	switch {
	case err != nil || ask == nil:
		return err
	case node == "":
		return apierrors.NewServiceUnavailable("no node decides about the pod's disruption budget yet: try again")
	case node != d.Config.Node:
		return d.askToEvict(ctx, node, *ask)
	}
	if e := d.do(ctx, func() { err = d.grant(*ask) }); e != nil {
		return e
	}
	return err
}

func budgetKey(pdb *policy.PodDisruptionBudget) manifests.Key {
	kind := workload.KindDisruptionBudget
	return manifests.Key{Group: kind.Group, Kind: kind.Kind, Namespace: pdb.Namespace, Name: pdb.Name}
}

// grant is the refusal of an eviction that a disruption budget does not allow now,
// in the apiserver's words; or, with nil, the disruption is counted.
func (d *Daemon) grant(ask eviction) error {
	budget, err := manifests.ParseKey(ask.Budget)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	key, err := manifests.ParseKey(ask.Pod)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if err := d.mayDecide(budget); err != nil {
		return err
	}
	o, exists := d.view.Get(key)
	p, isPod := o.(*v1.Pod)
	if !exists || !isPod || p.UID != ask.UID {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("node %s, which decides about the disruption budget %s, has not heard of the pod yet: try again", d.Config.Node, budget.Name))
	}
	pdb, counted, err := d.controllersSee(d.Now()).MayEvict(p)
	switch {
	case errors.Is(err, workload.ErrManyBudgets):
		return apierrors.NewInternalError(err)
	case err != nil:
		refusal := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
		refusal.ErrStatus.Details.Causes = append(refusal.ErrStatus.Details.Causes, metav1.StatusCause{
			Type: policy.DisruptionBudgetCause, Message: "The disruption budget " + pdb.Name + " " + err.Error(),
		})
		return refusal
	case counted == nil || ask.DryRun:
		return nil
	}
	values := make(map[record.Name]json.RawMessage)
	if err := d.putStatus(values, budget, counted); err != nil {
		return apierrors.NewInternalError(err)
	}
	d.publish(values)
	return nil
}

// askToEvict asks who decides about the budget.
func (d *Daemon) askToEvict(ctx context.Context, node string, ask eviction) error {
	ctx, cancel := context.WithTimeout(ctx, grantTime)
	defer cancel()
	b, err := json.Marshal(ask)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+node+evictionsPath, bytes.NewReader(b))
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	resp, err := others{d}.RoundTrip(node, r)
	if err != nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("node %s, which decides about the pod's disruption budget, can't be reached: %v. The pod was not evicted", node, err))
	}
	defer resp.Body.Close()
	var status metav1.Status
	b, err = io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && resp.StatusCode == http.StatusOK {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, &status)
	}
	if err != nil || status.Status != metav1.StatusFailure {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("node %s, which decides about the pod's disruption budget, does not answer for it: %s: try again", node, resp.Status))
	}
	return &apierrors.StatusError{ErrStatus: status}
}

// answerEviction answers another node's askToEvict.
func (d *Daemon) answerEviction(w http.ResponseWriter, r *http.Request) {
	var ask eviction
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&ask)
	if err != nil || r.Method != http.MethodPost {
		http.Error(w, fmt.Sprintf("no eviction: %v", err), http.StatusBadRequest)
		return
	}
	if e := d.do(r.Context(), func() { err = d.grant(ask) }); e != nil {
		err = e
	}
	if err == nil {
		return
	}
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status) // who went away asks again
}
