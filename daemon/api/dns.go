package api

import (
	"context"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DNSRequest asks how a name is resolved.
type DNSRequest struct {
	Name           string
	Namespace, Pod string // from which pod; without one: as it stands
}

// DNSLookup is a walk along a pod's search list.
type DNSLookup struct {
	Search      []string  `json:"search,omitempty"`
	Options     []string  `json:"options,omitempty"`
	Nameservers []string  `json:"nameservers,omitempty"` // whom the pod asks
	Completed   bool      `json:"completed"`             // the server answers the first question with what the walk comes to
	Note        string    `json:"note,omitempty"`
	Steps       []DNSStep `json:"steps"`
}

// DNSStep is one name that was asked for.
type DNSStep struct {
	Name    string   `json:"name"`
	Code    string   `json:"code,omitempty"`
	Source  string   `json:"source,omitempty"` // "zone": the cluster's names; "forward"
	Records []string `json:"records,omitempty"`
	Found   bool     `json:"found"`
	Why     string   `json:"why"`
}

// dnsRoutes serves GET /shoal/v1/dns/lookup?name=&namespace=&pod=.
func (s *Server) dnsRoutes() {
	s.mux.HandleFunc("GET /shoal/v1/dns/lookup", func(w http.ResponseWriter, r *http.Request) {
		answer(s, func(ctx context.Context) (DNSLookup, error) {
			q := DNSRequest{Name: r.URL.Query().Get("name"), Namespace: r.URL.Query().Get("namespace"), Pod: r.URL.Query().Get("pod")}
			if q.Name == "" {
				return DNSLookup{}, apierrors.NewBadRequest("parameter name is missing: what to look up")
			}
			if q.Namespace == "" {
				q.Namespace = metav1.NamespaceDefault
			}
			return s.Shoal.LookUp(ctx, q)
		})(w, r)
	})
}
