package api

import (
	"net/http"
	"net/url"
	"path"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// target is what a path names: a collection, an object, or a subresource.
type target struct {
	*resource
	namespace, name, sub string
}

func (t target) key() manifests.Key { return t.resource.key(t.namespace, t.name) }

// objects answers everything below a group and version.
func (s *Server) objects(w http.ResponseWriter, r *http.Request) {
	gv := schema.GroupVersion{Group: r.PathValue("group"), Version: r.PathValue("version")}
	t, ok := s.kinds.target(gv, r.PathValue("rest"))
	if !ok {
		s.fail(w, r, errNoSuchPath)
		return
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		s.fail(w, r, apierrors.NewBadRequest("query: "+err.Error()))
		return
	}
	slots, what := s.calls, "requests"
	if streams(r, t, q) {
		slots, what = s.watches, "watches and streams"
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	default:
		s.fail(w, r, busy(what))
		return
	}
	if err := s.dispatch(w, r, t, q); err != nil {
		s.fail(w, r, err)
	}
}

// streams says whether an answer may take as long as the client likes.
func streams(r *http.Request, t target, q url.Values) bool {
	return isWatch(r, q) || t.sub == "log" || upgrades[t.sub]
}

// upgrades are the subresources that take the connection over.
var upgrades = map[string]bool{"exec": true, "attach": true, "portforward": true}

func isExec(r *http.Request) bool { return upgrades[path.Base(r.URL.Path)] }

// target takes apart what follows /api/v1/ or /apis/GROUP/VERSION/.
func (k *kinds) target(gv schema.GroupVersion, rest string) (target, bool) {
	parts := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	var t target
	// /namespaces/a/pods is a collection in a, /namespaces/a/status is a
	// subresource of a.
	if len(parts) >= 3 && parts[0] == "namespaces" && k.byPath[gv.WithResource(parts[2])] != nil {
		t.namespace, parts = parts[1], parts[2:]
		if t.namespace == "" {
			return target{}, false
		}
	}
	t.resource = k.byPath[gv.WithResource(parts[0])]
	if t.resource == nil || len(parts) > 3 || t.namespace != "" && !t.Namespaced {
		return target{}, false
	}
	if len(parts) > 1 {
		t.name = parts[1]
	}
	if len(parts) > 2 {
		t.sub = parts[2]
	}
	if len(parts) > 1 && (t.name == "" || t.Namespaced && t.namespace == "") {
		return target{}, false
	}
	return t, true
}

func (s *Server) dispatch(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	switch {
	case t.only != nil:
		return s.usage(w, r, t, q)
	case t.sub != "":
		return s.subresource(w, r, t, q)
	case t.name == "":
		switch r.Method {
		case http.MethodGet:
			return s.collection(w, r, t, q)
		case http.MethodPost:
			return s.create(w, r, t, q)
		case http.MethodDelete:
			return s.deleteCollection(w, r, t, q)
		}
	default:
		switch r.Method {
		case http.MethodGet:
			return s.get(w, r, t, q)
		case http.MethodPut:
			return s.update(w, r, t, q)
		case http.MethodPatch:
			return s.patch(w, r, t, q)
		case http.MethodDelete:
			return s.delete(w, r, t, q)
		}
	}
	return methodNotAllowed(t.gr(), strings.ToLower(r.Method))
}

// missing says in words what a subresource would need that Shoal has not.
var missing = map[string]string{
	"proxy": "proxy is not served: connect to the pod's address from its host",
	"scale": "this kind has no scale here",
}

func (s *Server) subresource(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	pod := t.groupKind() == schema.GroupKind{Kind: "Pod"}
	if pod && (t.sub == "log" || upgrades[t.sub]) {
		if node := s.elsewhere(t); node != "" {
			return s.handOver(w, r, node)
		}
	}
	switch {
	case t.sub == "status" && r.Method == http.MethodGet:
		return s.get(w, r, t, q)
	case pod && t.sub == "status" && (r.Method == http.MethodPut || r.Method == http.MethodPatch):
		return s.changeStatus(w, r, t, q)
	case t.sub == "status":
		return apierrors.NewForbidden(t.gr(), t.name,
			errNotHere("status is written by the node that runs the object, not through the API"))
	case pod && t.sub == subEphemeral:
		return s.ephemeralContainers(w, r, t, q)
	case pod && t.sub == "log" && r.Method == http.MethodGet:
		return s.log(w, r, t, q)
	case pod && t.sub == "exec" && (r.Method == http.MethodGet || r.Method == http.MethodPost):
		return s.exec(w, r, t, q)
	case pod && t.sub == "attach" && (r.Method == http.MethodGet || r.Method == http.MethodPost):
		return s.attach(w, r, t, q)
	case pod && t.sub == "portforward" && (r.Method == http.MethodGet || r.Method == http.MethodPost):
		return s.portForward(w, r, t)
	case pod && t.sub == "eviction" && r.Method == http.MethodPost:
		return s.evict(w, r, t, q)
	case t.sub == "scale" && scales(t.resource):
		return s.scale(w, r, t, q)
	case isAccountToken(t) && r.Method == http.MethodPost && s.Tokens != nil:
		return s.issueToken(w, r, t)
	case missing[t.sub] != "":
		return errNotHere("%s", missing[t.sub])
	}
	return errNoSuchPath
}

// find is the object that a path names.
func (s *Server) find(t target) (view.Object, error) {
	o, ok := s.View.Get(t.key())
	if !ok {
		return nil, apierrors.NewNotFound(t.gr(), t.name)
	}
	return o, nil
}
