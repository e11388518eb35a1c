package daemon

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	authv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/token"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// tokens makes and checks the tokens of service accounts. It may be used from
// any goroutine.
type tokens struct {
	signer *token.Signer
	view   *view.View
	node   string
	now    func() time.Time

	mu   sync.Mutex
	kept map[projection]made // by pods that mount them; lost with the daemon, and then made anew
}

// projection is what a pod mounts; projections that are alike share a token.
type projection struct {
	pod, account types.UID
	audience     string
	life         time.Duration
}

type made struct {
	text  string
	renew time.Time
}

func openTokens(d *Daemon) (*tokens, error) {
	signer, err := token.NewSigner(d.Config.Security.ServiceAccountIssuer, d.key)
	if err != nil {
		return nil, err
	}
	return &tokens{signer: signer, view: d.view, node: d.Config.Node, now: d.Now, kept: make(map[projection]made)}, nil
}

// account looks up a service account.
func (t *tokens) account(namespace, name string) (*v1.ServiceAccount, error) {
	o, ok := t.view.Get(manifests.Key{Kind: "ServiceAccount", Namespace: namespace, Name: name})
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "serviceaccounts"}, name)
	}
	return o.(*v1.ServiceAccount), nil
}

// Projected is the token that a pod mounts, the same until it is to be renewed.
func (t *tokens) Projected(p *v1.Pod, s *v1.ServiceAccountTokenProjection) (string, error) {
	account, err := t.account(p.Namespace, p.Spec.ServiceAccountName)
	if err != nil {
		return "", err
	}
	life := time.Hour // the API's default, which files have filled in
	if s.ExpirationSeconds != nil {
		life = time.Duration(*s.ExpirationSeconds) * time.Second
	}
	key, now := projection{p.UID, account.UID, s.Audience, life}, t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if m, ok := t.kept[key]; ok && now.Before(m.renew) {
		return m.text, nil
	}
	audiences := []string{s.Audience}
	if s.Audience == "" {
		audiences = []string{t.signer.Issuer()}
	}
	text, err := t.signer.Sign(t.bound(account, p), audiences, life, uuid.NewString(), now)
	if err != nil {
		return "", err
	}
	t.kept[key] = made{text, token.Renew(now, life)}
	return text, nil
}

func (t *tokens) bound(account *v1.ServiceAccount, p *v1.Pod) token.Bound {
	b := token.Bound{Namespace: account.Namespace, Account: token.Ref{Name: account.Name, UID: string(account.UID)}}
	if p != nil {
		b.Pod = &token.Ref{Name: p.Name, UID: string(p.UID)}
		b.Node = &token.Ref{Name: t.node}
		if n, ok := t.view.Get(manifests.Key{Kind: "Node", Name: t.node}); ok {
			b.Node.UID = string(n.GetUID())
		}
	}
	return b
}

// due are the pods whose tokens are to be renewed now.
func (t *tokens) due() []types.UID {
	t.mu.Lock()
	defer t.mu.Unlock()
	var pods []types.UID
	for key, m := range t.kept {
		if !t.now().Before(m.renew) && !slices.Contains(pods, key.pod) {
			pods = append(pods, key.pod)
		}
	}
	return pods
}

// forget drops the tokens of a pod that is gone.
func (t *tokens) forget(pod types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range t.kept {
		if key.pod == pod {
			delete(t.kept, key)
		}
	}
}

// Issue answers a TokenRequest (kubectl create token).
func (t *tokens) Issue(_ context.Context, namespace, name string, req *authv1.TokenRequest) error {
	account, err := t.account(namespace, name)
	if err != nil {
		return err
	}
	if req.Spec.ExpirationSeconds == nil {
		hour := int64(3600)
		req.Spec.ExpirationSeconds = &hour
	}
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = []string{t.signer.Issuer()}
	}
	if err := checkLife(name, *req.Spec.ExpirationSeconds); err != nil {
		return err
	}
	p, err := t.boundPod(account, req.Spec.BoundObjectRef)
	if err != nil {
		return err
	}
	now, life := t.now(), time.Duration(*req.Spec.ExpirationSeconds)*time.Second
	text, err := t.signer.Sign(t.bound(account, p), req.Spec.Audiences, life, uuid.NewString(), now)
	if err != nil {
		return err
	}
	req.Name, req.Namespace = name, namespace
	req.CreationTimestamp = metav1.NewTime(now.Truncate(time.Second))
	req.Status = authv1.TokenRequestStatus{Token: text, ExpirationTimestamp: metav1.NewTime(now.Add(life).Truncate(time.Second))}
	return nil
}

// checkLife is upstream's ValidateTokenRequest.
func checkLife(name string, seconds int64) error {
	path, why := field.NewPath("spec", "expirationSeconds"), ""
	switch {
	case seconds < int64(token.MinLife/time.Second):
		why = "may not specify a duration less than 10 minutes"
	case seconds > int64(token.MaxLife/time.Second):
		why = "may not specify a duration larger than 2^32 seconds"
	default:
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: authv1.GroupName, Kind: "TokenRequest"}, name,
		field.ErrorList{field.Invalid(path, seconds, why)})
}

// boundPod is the pod that a token is asked to be bound to; nil for none.
func (t *tokens) boundPod(account *v1.ServiceAccount, ref *authv1.BoundObjectReference) (*v1.Pod, error) {
	if ref == nil {
		return nil, nil
	}
	if ref.Kind != "Pod" || ref.APIVersion != "v1" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to %s %s %q: only to a v1 Pod",
			account.Name, ref.APIVersion, ref.Kind, ref.Name))
	}
	o, ok := t.view.Get(manifests.Key{Kind: "Pod", Namespace: account.Namespace, Name: ref.Name})
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, ref.Name)
	}
	p := o.(*v1.Pod)
	if ref.UID != "" && ref.UID != p.UID {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, ref.Name,
			fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	if p.Spec.ServiceAccountName != account.Name {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", account.Name))
	}
	return p, nil
}

// Review answers a TokenReview: whose token it is, if it is one and still good.
func (t *tokens) Review(_ context.Context, r *authv1.TokenReview) {
	audiences := r.Spec.Audiences
	if len(audiences) == 0 {
		audiences = []string{t.signer.Issuer()}
	}
	c, both, err := t.signer.Verify(r.Spec.Token, audiences, t.now())
	if err == nil {
		err = t.alive(c.Bound)
	}
	if err != nil {
		r.Status = authv1.TokenReviewStatus{Error: err.Error()}
		return
	}
	extra := map[string]authv1.ExtraValue{"authentication.kubernetes.io/credential-id": {"JTI=" + c.ID}}
	for kind, ref := range map[string]*token.Ref{"pod": c.Bound.Pod, "node": c.Bound.Node} {
		if ref != nil {
			extra["authentication.kubernetes.io/"+kind+"-name"] = authv1.ExtraValue{ref.Name}
			extra["authentication.kubernetes.io/"+kind+"-uid"] = authv1.ExtraValue{ref.UID}
		}
	}
	r.Status = authv1.TokenReviewStatus{
		Authenticated: true, Audiences: both,
		User: authv1.UserInfo{
			Username: c.Subject, UID: c.Bound.Account.UID, Extra: extra,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + c.Bound.Namespace, "system:authenticated"},
		},
	}
}

// deletedGrace is how long a token lives on after what it is bound to should
// have been gone (upstream's deletionTimestamp plus 60 s).
const deletedGrace = time.Minute

// alive says whether the objects that a token is bound to are there still.
func (t *tokens) alive(b token.Bound) error {
	refs := []struct {
		kind string
		ref  *token.Ref
	}{{"ServiceAccount", &b.Account}, {"Pod", b.Pod}}
	for _, r := range refs {
		if r.ref == nil {
			continue
		}
		o, ok := t.view.Get(manifests.Key{Kind: r.kind, Namespace: b.Namespace, Name: r.ref.Name})
		if !ok || string(o.GetUID()) != r.ref.UID ||
			o.GetDeletionTimestamp() != nil && t.now().After(o.GetDeletionTimestamp().Add(deletedGrace)) {
			return fmt.Errorf("service account token has been invalidated: its %s %q is gone", r.kind, r.ref.Name)
		}
	}
	return nil
}

// Discovery and KeySet are what others need to check tokens by themselves.
func (t *tokens) Discovery() ([]byte, error) { return t.signer.Discovery() }
func (t *tokens) KeySet() ([]byte, error)    { return t.signer.KeySet() }

var _ api.Tokens = (*tokens)(nil)
