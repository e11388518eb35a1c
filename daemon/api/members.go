package api

import (
	"encoding/json"
	"io"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// MemberList is the cluster as this node sees it.
type MemberList struct {
	Cluster string `json:"cluster"` // its id
	// Settled says that the cluster does not go over to another that it meets.
	Settled bool     `json:"settled"`
	Fleet   bool     `json:"fleet"` // this host is to be one of several
	Members []Member `json:"members"`
	// Problems are what keeps hosts apart, in words.
	Problems []string `json:"problems,omitempty"`
}

// Member is a node of the cluster.
type Member struct {
	Name    string    `json:"name"`
	Self    bool      `json:"self,omitempty"`
	Status  string    `json:"status"` // "alive", "leaving", "left", "failed", "unseen": not since shoald started here
	Since   time.Time `json:"since,omitzero"`
	Address string    `json:"address,omitempty"` // for gossip
	Version string    `json:"version,omitempty"`
	// Ready says that it has its peers' records: it decides about objects.
	Ready bool `json:"ready"`
	// Incarnation and Seq are of its record, as this node has it.
	Incarnation uint64 `json:"incarnation,omitempty"`
	Seq         uint64 `json:"seq,omitempty"`
	// Behind is how many changes of its record are not here yet, and Lags how many
	// of this node's are not there. They are missing where it did not say.
	Behind *uint64 `json:"behind,omitempty"`
	Lags   *uint64 `json:"lags,omitempty"`
}

// JoinRequest names hosts to join.
type JoinRequest struct {
	Hosts []string `json:"hosts"`
}

func (s *Server) memberRoutes() {
	s.mux.HandleFunc("GET /shoal/v1/members", answer(s, s.Shoal.Members))
	s.mux.HandleFunc("DELETE /shoal/v1/members/{name}", func(w http.ResponseWriter, r *http.Request) {
		s.done(w, r, s.Shoal.ForgetMember(r.Context(), r.PathValue("name")))
	})
	s.mux.HandleFunc("POST /shoal/v1/leave", func(w http.ResponseWriter, r *http.Request) { s.done(w, r, s.Shoal.Leave(r.Context())) })
	s.mux.HandleFunc("POST /shoal/v1/join", func(w http.ResponseWriter, r *http.Request) {
		var join JoinRequest
		if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&join); err != nil || len(join.Hosts) == 0 {
			s.fail(w, r, apierrors.NewBadRequest(`want {"hosts": ["HOST[:PORT]", ...]}`))
			return
		}
		s.done(w, r, s.Shoal.Join(r.Context(), join.Hosts))
	})
}

// done answers with nothing but whether it was done.
func (s *Server) done(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
