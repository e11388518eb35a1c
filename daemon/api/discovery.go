package api

import (
	"net/http"
	"strings"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiversion "k8s.io/apimachinery/pkg/version"
)

// kubernetesVersion is the release whose types, defaults and validation this
// is: kubectl compares it with its own.
const kubernetesVersion = "v1.36.3"

var verbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// verbs are what a client may do to objects of the kind.
func (r *resource) verbs() []string {
	if r.only != nil {
		return r.only
	}
	return verbs
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) {
	major, minor, _ := strings.Cut(strings.TrimPrefix(kubernetesVersion, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	writeJSON(w, http.StatusOK, apiversion.Info{
		Major: major, Minor: minor, GitVersion: kubernetesVersion + "+shoal-" + s.Version, Platform: "linux",
	})
}

func healthy(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) }

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.Ready != nil {
		if err := s.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	healthy(w, nil)
}

// aggregated says whether a client asks for all groups in one document, which
// kubectl does since 1.27.
func aggregated(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(accept, "g=apidiscovery.k8s.io") && strings.Contains(accept, "v=v2;")
}

func (s *Server) legacyVersions(w http.ResponseWriter, r *http.Request) {
	if aggregated(r) {
		s.aggregate(w, func(group string) bool { return group == "" })
		return
	}
	writeJSON(w, http.StatusOK, metav1.APIVersions{
		TypeMeta:                   metav1.TypeMeta{Kind: "APIVersions"},
		Versions:                   []string{"v1"},
		ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{},
	})
}

func (s *Server) groups(w http.ResponseWriter, r *http.Request) {
	if aggregated(r) {
		s.aggregate(w, func(group string) bool { return group != "" })
		return
	}
	writeJSON(w, http.StatusOK, metav1.APIGroupList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"},
		Groups:   s.kinds.groups(),
	})
}

func (s *Server) group(w http.ResponseWriter, r *http.Request) {
	for _, g := range s.kinds.groups() {
		if g.Name == r.PathValue("group") {
			g.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
			writeJSON(w, http.StatusOK, g)
			return
		}
	}
	s.fail(w, r, errNoSuchPath)
}

// groups lists all but the core group; a group's first version is preferred.
func (k *kinds) groups() []metav1.APIGroup {
	var groups []metav1.APIGroup
	for _, gv := range k.versions() {
		if gv.Group == "" {
			continue
		}
		v := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
		if n := len(groups); n > 0 && groups[n-1].Name == gv.Group {
			groups[n-1].Versions = append(groups[n-1].Versions, v)
			continue
		}
		groups = append(groups, metav1.APIGroup{
			Name: gv.Group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v,
		})
	}
	return groups
}

// versions is each group and version once, in order.
func (k *kinds) versions() []schema.GroupVersion {
	var gvs []schema.GroupVersion
	for _, r := range k.all {
		if n := len(gvs); n == 0 || gvs[n-1] != r.gv() {
			gvs = append(gvs, r.gv())
		}
	}
	return gvs
}

func (s *Server) resources(w http.ResponseWriter, r *http.Request) {
	gv := schema.GroupVersion{Group: r.PathValue("group"), Version: r.PathValue("version")}
	list := metav1.APIResourceList{
		TypeMeta:     metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
		GroupVersion: gv.String(),
	}
	for _, k := range s.kinds.all {
		if k.gv() != gv {
			continue
		}
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: k.Resource.Resource, SingularName: k.Singular, Namespaced: k.Namespaced, Kind: k.Kind,
			Verbs: k.verbs(), ShortNames: k.ShortNames, Categories: k.Categories,
		})
		for _, sub := range k.subresources {
			list.APIResources = append(list.APIResources, metav1.APIResource{
				Name: k.Resource.Resource + "/" + sub.name, Namespaced: k.Namespaced, Kind: sub.kind,
				Group: sub.group, Version: sub.version, Verbs: sub.verbs,
			})
		}
	}
	if list.APIResources == nil {
		s.fail(w, r, errNoSuchPath)
		return
	}
	writeJSON(w, http.StatusOK, list)
}

// aggregate answers in the form of KEP-3352.
func (s *Server) aggregate(w http.ResponseWriter, want func(group string) bool) {
	list := apidiscovery.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"},
		Items:    []apidiscovery.APIGroupDiscovery{},
	}
	for _, gv := range s.kinds.versions() {
		if !want(gv.Group) {
			continue
		}
		if n := len(list.Items); n == 0 || list.Items[n-1].Name != gv.Group {
			list.Items = append(list.Items, apidiscovery.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: gv.Group}})
		}
		g := &list.Items[len(list.Items)-1]
		g.Versions = append(g.Versions, apidiscovery.APIVersionDiscovery{
			Version: gv.Version, Freshness: apidiscovery.DiscoveryFreshnessCurrent, Resources: s.kinds.discovered(gv),
		})
	}
	w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
	w.WriteHeader(http.StatusOK)
	encode(w, list)
}

func (k *kinds) discovered(gv schema.GroupVersion) []apidiscovery.APIResourceDiscovery {
	var list []apidiscovery.APIResourceDiscovery
	for _, r := range k.all {
		if r.gv() != gv {
			continue
		}
		d := apidiscovery.APIResourceDiscovery{
			Resource: r.Resource.Resource, SingularResource: r.Singular, Scope: apidiscovery.ScopeCluster,
			ResponseKind: &metav1.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind},
			Verbs:        r.verbs(), ShortNames: r.ShortNames, Categories: r.Categories,
		}
		if r.Namespaced {
			d.Scope = apidiscovery.ScopeNamespace
		}
		for _, sub := range r.subresources {
			d.Subresources = append(d.Subresources, apidiscovery.APISubresourceDiscovery{
				Subresource: sub.name, Verbs: sub.verbs,
				ResponseKind: &metav1.GroupVersionKind{Group: sub.group, Version: "v1", Kind: sub.kind},
			})
		}
		list = append(list, d)
	}
	return list
}
