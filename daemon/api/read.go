package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/view"
)

func (s *Server) get(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	f, err := s.formOf(r, t.resource, q)
	if err != nil {
		return err
	}
	v, missing, release := s.viewOf(r.Context(), t)
	defer release()
	o, ok := v.Get(t.key())
	warn(w, silent(missing, "its events are missing here"))
	if !ok {
		return apierrors.NewNotFound(t.gr(), t.name)
	}
	return s.reply(w, f, http.StatusOK, o)
}

// collection answers a list or, with ?watch, a watch.
func (s *Server) collection(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	f, err := s.formOf(r, t.resource, q)
	if err != nil {
		return err
	}
	match, err := selectorOf(t.resource, q)
	if err != nil {
		return err
	}
	v, missing, release := s.viewOf(r.Context(), t)
	defer release()
	warn(w, silent(missing, "its events are missing here"))
	if isWatch(r, q) {
		return s.watch(w, r, t, q, f, match, v)
	}
	page, err := pageOf(v, t, q, match)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return f.list(w, page.meta, page.items)
}

type page struct {
	meta  metav1.ListMeta
	items []view.Object
}

// position is where the next page begins. Versions are those of the first
// page: who watches from there sees again what pages have shown since, and
// misses nothing.
type position struct {
	Version uint64 `json:"rv"`
	After   string `json:"after"` // namespace/name of the last object shown
}

func pageOf(v *view.View, t target, q url.Values, match selector) (page, error) {
	limit, err := intParameter(q, "limit")
	if err != nil {
		return page{}, err
	}
	all, version := v.List(t.groupKind(), t.namespace)
	if err := checkVersion(q, version); err != nil {
		return page{}, err
	}
	if token := q.Get("continue"); token != "" {
		from, err := parsePosition(v, token)
		if err != nil {
			return page{}, err
		}
		version = from.Version
		all = after(all, from.After)
	}
	items := make([]view.Object, 0, len(all))
	for _, o := range all {
		if match(o) {
			items = append(items, o)
		}
	}
	p := page{items: items, meta: metav1.ListMeta{ResourceVersion: strconv.FormatUint(version, 10)}}
	if limit > 0 && int64(len(items)) > limit {
		rest := int64(len(items)) - limit
		p.items = items[:limit]
		p.meta.Continue = position{version, place(p.items[limit-1])}.String()
		p.meta.RemainingItemCount = &rest
	}
	return p, nil
}

func place(o view.Object) string { return o.GetNamespace() + "/" + o.GetName() }

// after is what follows a place in a list sorted as the view's are: by
// namespace, then by name.
func after(sorted []view.Object, last string) []view.Object {
	namespace, name, _ := strings.Cut(last, "/")
	for i, o := range sorted {
		if o.GetNamespace() > namespace || o.GetNamespace() == namespace && o.GetName() > name {
			return sorted[i:]
		}
	}
	return nil
}

func (p position) String() string {
	b, _ := json.Marshal(p)
	return base64.RawURLEncoding.EncodeToString(b)
}

func parsePosition(v *view.View, token string) (position, error) {
	var p position
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		return p, apierrors.NewBadRequest(fmt.Sprintf("continue key is not valid: %v", err))
	}
	if _, _, err := v.Since(p.Version); err != nil {
		return p, apierrors.NewResourceExpired("The provided continue parameter is too old: list again without it.")
	}
	return p, nil
}

// checkVersion holds a list to the version that the client asks for: a newer
// one than ours cannot be had (KEP-2340's words), an exact older one is gone.
func checkVersion(q url.Values, have uint64) error {
	rv := q.Get("resourceVersion")
	match := metav1.ResourceVersionMatch(q.Get("resourceVersionMatch"))
	if rv == "" || rv == "0" {
		return nil
	}
	if q.Get("continue") != "" {
		return apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
	}
	want, err := strconv.ParseUint(rv, 10, 64)
	if err != nil {
		return badParameter("resourceVersion", err)
	}
	if want > have {
		e := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", want, have), 1)
		e.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
		return e
	}
	if match == metav1.ResourceVersionMatchExact && want != have {
		return expired(want, have)
	}
	return nil
}

func expired(want, have uint64) *apierrors.StatusError {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", want, have))
}

// intParameter is a number that is not negative; 0 where it is not given.
func intParameter(q url.Values, name string) (int64, error) {
	if q.Get(name) == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(q.Get(name), 10, 64)
	if err == nil && n < 0 {
		err = errors.New("must not be negative")
	}
	if err != nil {
		return 0, badParameter(name, err)
	}
	return n, nil
}

// boolParameter reads a bool as the apiserver's conversion does: given and
// neither "0" nor "false" is true.
func boolParameter(q url.Values, name string) bool {
	if !q.Has(name) {
		return false
	}
	v := strings.ToLower(q.Get(name))
	return v != "0" && v != "false"
}
