package api

import (
	"context"
	"fmt"
	"net/http"

	authv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"github.com/shoal-project/shoal/daemon/api/openapi"
)

// Tokens makes and checks the tokens of service accounts.
type Tokens interface {
	// Issue fills in the request's status.
	Issue(ctx context.Context, namespace, account string, r *authv1.TokenRequest) error
	// Review fills in the review's status. A token that is no good is no error.
	Review(ctx context.Context, r *authv1.TokenReview)
	// Discovery and KeySet are the documents by which others can check tokens.
	Discovery() ([]byte, error)
	KeySet() ([]byte, error)
}

// authScheme has the bodies of requests about tokens. They are no objects: they
// are in no file and no view.
var authScheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(authv1.AddToScheme(s))
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	return s
}()

var (
	authJSON  = json.NewSerializerWithOptions(json.DefaultMetaFactory, authScheme, authScheme, json.SerializerOptions{Yaml: true})
	authProto = protobuf.NewSerializer(authScheme, authScheme)
)

// tokenReviews is how discovery lists the one kind that is made and not kept.
var tokenReviews = &resource{
	Resource: openapi.Resource{Group: authv1.GroupName, Version: "v1", Resource: "tokenreviews", Singular: "tokenreview", Kind: "TokenReview"},
	only:     []string{"create"},
}

// accountSubresources is what clients look for in discovery before they ask for
// a token.
var accountSubresources = []subresource{{"token", authv1.GroupName, "v1", "TokenRequest", []string{"create"}}}

func (s *Server) tokenRoutes() {
	s.mux.HandleFunc("POST /apis/authentication.k8s.io/v1/tokenreviews", s.reviewToken)
	s.mux.HandleFunc("GET /.well-known/openid-configuration", s.document("application/json", s.Tokens.Discovery))
	s.mux.HandleFunc("GET /openid/v1/jwks", s.document("application/jwk-set+json", s.Tokens.KeySet))
}

// authBody reads a body into what it should be.
func authBody(w http.ResponseWriter, r *http.Request, into runtime.Object) error {
	b, err := body(w, r)
	if err != nil {
		return err
	}
	decoder := runtime.Decoder(authJSON)
	if r.Header.Get("Content-Type") == protobufType {
		decoder = authProto
	}
	gvks, _, err := authScheme.ObjectKinds(into)
	if err != nil {
		return err
	}
	got, gvk, err := decoder.Decode(b, &gvks[0], into)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if got != into || gvk.GroupKind() != gvks[0].GroupKind() {
		return apierrors.NewBadRequest(fmt.Sprintf("%s cannot be handled as a %s", gvk, gvks[0].Kind))
	}
	into.GetObjectKind().SetGroupVersionKind(gvks[0])
	return nil
}

func (s *Server) issueToken(w http.ResponseWriter, r *http.Request, t target) error {
	var req authv1.TokenRequest
	if err := authBody(w, r, &req); err != nil {
		return err
	}
	if err := s.Tokens.Issue(r.Context(), t.namespace, t.name, &req); err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, req)
	return nil
}

func (s *Server) reviewToken(w http.ResponseWriter, r *http.Request) {
	var review authv1.TokenReview
	if err := authBody(w, r, &review); err != nil {
		s.fail(w, r, err)
		return
	}
	if review.Spec.Token == "" {
		s.fail(w, r, apierrors.NewBadRequest("token is required for TokenReview in authentication"))
		return
	}
	s.Tokens.Review(r.Context(), &review)
	writeJSON(w, http.StatusCreated, review)
}

func (s *Server) document(contentType string, text func() ([]byte, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, err := text()
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Write(b)
	}
}

// isAccountToken says whether a path is that of a service account's tokens.
func isAccountToken(t target) bool {
	return t.sub == "token" && t.groupKind() == v1.SchemeGroupVersion.WithKind("ServiceAccount").GroupKind()
}
