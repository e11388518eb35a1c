package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	metrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// measuringElsewhere is how long another node may take to say what it uses: its
// rates need two looks, a second apart.
const measuringElsewhere = 4 * time.Second

// mostMeasured bounds what another node says it uses, in bytes: some 10,000
// pods.
const mostMeasured = 8 << 20

// isNode says whether the cluster has a node of that name.
func (s *Server) isNode(name string) bool {
	_, is := s.View.Get(manifests.Key{Kind: "Node", Name: name})
	return is || s.Nodes != nil && slices.Contains(s.Nodes.Others(), name)
}

// measuredBy is the other node that measures the one object of a path, "" if
// this one does, or it is a list.
func (s *Server) measuredBy(t target) string {
	switch {
	case t.name == "" || t.name == s.Node && t.Kind == "NodeMetrics":
		return ""
	case t.Kind == "NodeMetrics" && s.isNode(t.name):
		return t.name
	case t.Kind == "PodMetrics":
		return s.elsewhere(t)
	}
	return ""
}

// measuredAnywhere is what all nodes measured, and which did not say in time.
func (s *Server) measuredAnywhere(ctx context.Context, t target) (all []view.Object, missing []string, err error) {
	var others []string
	if s.Nodes != nil && t.name == "" && callingNode(ctx) == "" {
		others = s.Nodes.Others()
	}
	var asking sync.WaitGroup
	var mu sync.Mutex
	within, cancel := context.WithTimeout(ctx, measuringElsewhere)
	defer cancel()
	for _, node := range others {
		asking.Go(func() {
			list, err := s.measuredAt(within, node, t)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.Log.Debug("a node does not say what it uses", "node", node, "err", err)
				missing = append(missing, node)
			}
			all = append(all, list...)
		})
	}
	own, err := s.measured(ctx, t)
	asking.Wait()
	if len(others) > 0 {
		missing = s.withLost(missing, others)
	}
	all = append(all, own...)
	slices.SortFunc(all, func(a, b view.Object) int { return strings.Compare(place(a), place(b)) })
	return all, missing, err
}

// measuredAt is what another node measured. Of nodes it speaks for itself alone.
func (s *Server) measuredAt(ctx context.Context, node string, t target) (list []view.Object, err error) {
	path := "/apis/" + t.gv().String() + "/"
	if t.namespace != "" {
		path += "namespaces/" + t.namespace + "/"
	}
	err = s.ask(ctx, node, path+t.Resource.Resource, "", func(body io.Reader) error {
		dec := json.NewDecoder(io.LimitReader(body, mostMeasured))
		if t.Kind == "NodeMetrics" {
			var in metrics.NodeMetricsList
			err := dec.Decode(&in)
			for i := range in.Items {
				if in.Items[i].Name != node {
					return fmt.Errorf("node %s speaks for node %s", node, in.Items[i].Name)
				}
				list = append(list, &in.Items[i])
			}
			return err
		}
		var in metrics.PodMetricsList
		err := dec.Decode(&in)
		for i := range in.Items {
			list = append(list, &in.Items[i])
		}
		return err
	})
	return objectsOf(list, t.gvk()), err
}
