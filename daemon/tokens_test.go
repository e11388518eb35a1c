package daemon

import (
	"strings"
	"testing"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

const robot = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {namespace: x, name: robot}\n"

// withTokens is a daemon with files, whose namespace x has the account robot and
// the pod p.
func withTokens(t *testing.T) (*files, *v1.Pod) {
	f := openFiles(t, t.TempDir(), "n1")
	f.Config.Security.ServiceAccountIssuer = "https://issuer"
	var err error
	if f.tokens, err = openTokens(f.Daemon); err != nil {
		t.Fatal(err)
	}
	f.write("robot.yaml", robot)
	f.scan()
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "p", UID: "p1"}, Spec: v1.PodSpec{ServiceAccountName: "robot"}}
	f.view.Apply(view.Change{Key: podKey(p), Object: p})
	return f, p
}

func (f *files) review(text string, audiences ...string) authv1.TokenReviewStatus {
	r := &authv1.TokenReview{Spec: authv1.TokenReviewSpec{Token: text, Audiences: audiences}}
	f.tokens.Review(f.t.Context(), r)
	return r.Status
}

func projectionFor(audience string, seconds int64) *v1.ServiceAccountTokenProjection {
	return &v1.ServiceAccountTokenProjection{Audience: audience, ExpirationSeconds: &seconds, Path: "token"}
}

func TestAPodsTokenStaysTheSameUntilItIsRenewed(t *testing.T) {
	f, p := withTokens(t)
	first, err := f.tokens.Projected(p, projectionFor("vault", 600))
	if err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(7 * time.Minute)
	if again, _ := f.tokens.Projected(p, projectionFor("vault", 600)); again != first || len(f.tokens.due()) > 0 {
		t.Error("renewed before four fifths of its life")
	}
	f.now = f.now.Add(time.Minute)
	if due := f.tokens.due(); len(due) != 1 || due[0] != p.UID {
		t.Errorf("due: %v", due)
	}
	second, _ := f.tokens.Projected(p, projectionFor("vault", 600))
	if second == first || len(f.tokens.due()) > 0 {
		t.Error("not renewed at four fifths of its life")
	}
	if s := f.review(second, "vault"); !s.Authenticated {
		t.Errorf("got %+v", s)
	}
	f.tokens.forget(p.UID)
	if len(f.tokens.kept) > 0 {
		t.Error("kept for a pod that is gone")
	}
}

func TestAReviewSaysWhoseTokenItIsAndWhatMadeItInvalid(t *testing.T) {
	f, p := withTokens(t)
	text, err := f.tokens.Projected(p, projectionFor("", 3600))
	if err != nil {
		t.Fatal(err)
	}
	s := f.review(text)
	if u := s.User; !s.Authenticated || u.Username != "system:serviceaccount:x:robot" ||
		strings.Join(u.Groups, " ") != "system:serviceaccounts system:serviceaccounts:x system:authenticated" ||
		u.Extra["authentication.kubernetes.io/pod-name"][0] != "p" || u.Extra["authentication.kubernetes.io/node-name"][0] != "n1" {
		t.Errorf("got %+v", s)
	}
	if s := f.review(text, "vault"); s.Authenticated || s.Error == "" {
		t.Errorf("for another audience: %+v", s)
	}
	dying := p.DeepCopy()
	at := metav1.NewTime(f.now)
	dying.DeletionTimestamp = &at
	f.view.Apply(view.Change{Key: podKey(p), Object: dying})
	if s := f.review(text); !s.Authenticated {
		t.Errorf("while the pod ends: %+v", s)
	}
	f.now = f.now.Add(2 * time.Minute)
	if s := f.review(text); s.Authenticated {
		t.Error("good long after the pod should have been gone")
	}
	other := p.DeepCopy()
	other.UID = "p2"
	f.view.Apply(view.Change{Key: podKey(p), Object: other})
	if s := f.review(text); s.Authenticated || !strings.Contains(s.Error, `Pod "p" is gone`) {
		t.Errorf("of another pod of that name: %+v", s)
	}
	mine, _ := f.tokens.Projected(other, projectionFor("", 3600))
	f.remove("robot.yaml")
	f.scan()
	f.now = f.now.Add(settle)
	f.scan()
	if s := f.review(mine); s.Authenticated || !strings.Contains(s.Error, `ServiceAccount "robot" is gone`) {
		t.Errorf("without its account: %+v", s)
	}
	if _, err := f.tokens.Projected(other, projectionFor("", 3600)); !apierrors.IsNotFound(err) {
		t.Errorf("a token of an account that is gone: %v", err)
	}
}

func TestATokenIsIssuedOnlyForWhatItMayBeBoundTo(t *testing.T) {
	f, _ := withTokens(t)
	issue := func(account string, spec authv1.TokenRequestSpec) (authv1.TokenRequestStatus, error) {
		r := &authv1.TokenRequest{Spec: spec}
		err := f.tokens.Issue(t.Context(), "x", account, r)
		return r.Status, err
	}
	pod := &authv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "p"}
	s, err := issue("robot", authv1.TokenRequestSpec{BoundObjectRef: pod})
	if err != nil || !f.review(s.Token).Authenticated || !s.ExpirationTimestamp.Time.Equal(f.now.Add(time.Hour).Truncate(time.Second)) {
		t.Errorf("got %+v, %v", s, err)
	}
	short := int64(60)
	for name, err := range map[string]error{
		"too short":         second(issue("robot", authv1.TokenRequestSpec{ExpirationSeconds: &short})),
		"no such account":   second(issue("none", authv1.TokenRequestSpec{})),
		"another's pod":     second(issue("default", authv1.TokenRequestSpec{BoundObjectRef: pod})),
		"another UID":       second(issue("robot", authv1.TokenRequestSpec{BoundObjectRef: &authv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "p", UID: "p0"}})),
		"not bound to that": second(issue("robot", authv1.TokenRequestSpec{BoundObjectRef: &authv1.BoundObjectReference{Kind: "Secret", APIVersion: "v1", Name: "p"}})),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestEveryNamespaceHasADefaultAccount(t *testing.T) {
	f := openFiles(t, t.TempDir(), "n1")
	has := func() string {
		account := f.account("x", "default")
		_, ns := f.view.Get(manifests.Key{Kind: "Namespace", Name: "x"})
		switch {
		case account == nil && !ns:
			return "nothing"
		case account == nil:
			return "a namespace without account"
		case f.isImplied(defaultAccount("x"), account):
			return "implied"
		}
		return "declared"
	}
	step := func(want string) {
		t.Helper()
		f.scan()
		f.now = f.now.Add(settle)
		f.scan()
		if got := has(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f.write("a.yaml", configMap("x", "a", "v"))
	step("implied")
	f.write("sa.yaml", "apiVersion: v1\nkind: ServiceAccount\nmetadata: {namespace: x, name: default}\n")
	step("declared")
	f.remove("a.yaml")
	step("declared")
	f.write("a.yaml", configMap("x", "a", "v"))
	f.scan()
	f.remove("sa.yaml")
	step("implied")
	f.remove("a.yaml")
	step("nothing")
}

func TestAPodWithoutPullSecretsHasThoseOfItsAccount(t *testing.T) {
	f, p := withTokens(t)
	f.write("robot.yaml", robot+"imagePullSecrets: [{name: of-account}]\n")
	f.scan()
	if got := f.pullSecrets(p); len(got) != 1 || got[0].Name != "of-account" {
		t.Errorf("got %v", got)
	}
	p.Spec.ImagePullSecrets = []v1.LocalObjectReference{{Name: "own"}}
	if got := f.pullSecrets(p); len(got) != 1 || got[0].Name != "own" {
		t.Errorf("got %v", got)
	}
	p.Spec = v1.PodSpec{ServiceAccountName: "none"}
	if got := f.pullSecrets(p); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}

func TestANamespaceWhoseOnlyObjectIsReplacedKeepsItsAccount(t *testing.T) {
	f := openFiles(t, t.TempDir(), "n1")
	key := manifests.Key{Kind: "ConfigMap", Namespace: "x", Name: "a"}
	f.write("a.yaml", configMap("x", "a", "v"))
	f.scan()
	f.remove("a.yaml")
	f.scan()
	f.now = f.now.Add(settle)
	f.set = f.reader.Scan()
	values, _ := f.claims()
	f.say(values)
	f.fold([]manifests.Key{key, key}) // as when several sections speak of it
	if f.account("x", "default") != nil {
		t.Error("an account in a namespace that is gone")
	}
	f.write("a.yaml", configMap("x", "a", "w"))
	f.scan()
	if f.account("x", "default") == nil {
		t.Error("the namespace is back, and its account is not")
	}
}
