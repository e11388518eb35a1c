package api

import (
	"context"
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/shoal-project/shoal/daemon/plan"
)

// PlanRequest is what a plan is about.
type PlanRequest struct {
	Action string   // plan.Lose or plan.Drain
	Nodes  []string // together; none, of plan.Lose alone: each node by itself
}

// PlanList is one plan, or one for each node.
type PlanList struct {
	Plans []plan.Outcome `json:"plans"`
}

// planRoutes serves plans: GET /shoal/v1/plan/lose?node=a&node=b. Nothing is
// changed by them.
func (s *Server) planRoutes() {
	for _, action := range []string{plan.Lose, plan.Drain} {
		s.mux.HandleFunc("GET /shoal/v1/plan/"+action, func(w http.ResponseWriter, r *http.Request) {
			answer(s, func(ctx context.Context) (PlanList, error) {
				q := PlanRequest{Action: action, Nodes: r.URL.Query()["node"]}
				if action == plan.Drain && len(q.Nodes) == 0 {
					return PlanList{}, apierrors.NewBadRequest("parameter node is missing: the node to drain")
				}
				list, err := s.Shoal.Plan(ctx, q)
				var unknown *plan.UnknownNodeError
				if errors.As(err, &unknown) {
					return list, apierrors.NewBadRequest(unknown.Error())
				}
				return list, err
			})(w, r)
		})
	}
}
