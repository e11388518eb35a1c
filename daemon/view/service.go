package view

import (
	"encoding/json"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ServiceStatus is what a Service's steward says of it: what it was given where
// it asked for nothing particular, and its status.
type ServiceStatus struct {
	ClusterIPs     []string          `json:"clusterIPs,omitempty"`
	IPFamilies     []v1.IPFamily     `json:"ipFamilies,omitempty"`
	IPFamilyPolicy v1.IPFamilyPolicy `json:"ipFamilyPolicy,omitempty"`
	NodePorts      map[string]int32  `json:"nodePorts,omitempty"` // by the ports' names
	Status         v1.ServiceStatus  `json:"status"`
}

// Fill gives a service what it was given and does not name itself.
func (g *ServiceStatus) Fill(s *v1.Service) {
	s.Status = g.Status
	if s.Spec.ClusterIP == "" && len(g.ClusterIPs) > 0 {
		s.Spec.ClusterIP = g.ClusterIPs[0]
	}
	if len(s.Spec.ClusterIPs) < len(g.ClusterIPs) && (len(s.Spec.ClusterIPs) == 0 || s.Spec.ClusterIPs[0] == g.ClusterIPs[0]) {
		s.Spec.ClusterIPs = g.ClusterIPs
	}
	if len(s.Spec.IPFamilies) < len(g.IPFamilies) {
		s.Spec.IPFamilies = g.IPFamilies
	}
	if s.Spec.IPFamilyPolicy == nil && g.IPFamilyPolicy != "" {
		s.Spec.IPFamilyPolicy = &g.IPFamilyPolicy
	}
	for i := range s.Spec.Ports {
		if p := &s.Spec.Ports[i]; p.NodePort == 0 {
			p.NodePort = g.NodePorts[p.Name]
		}
	}
}

// ServiceValue is a service's entry in section Status.
func ServiceValue(s *v1.Service, given ServiceStatus) (json.RawMessage, error) {
	raw, err := json.Marshal(given)
	if err != nil {
		return nil, err
	}
	return json.Marshal(ControllerStatus{UID: s.UID, Status: raw})
}

// Given is what the records say of a service by its UID: the word that counts.
func Given(uid types.UID, said map[string]Said) (given ServiceStatus, err error) {
	node, err := Entries{Status: said}.teller(uid)
	if node == "" || err != nil {
		return given, err
	}
	var s ControllerStatus
	if err := json.Unmarshal(said[node].Value, &s); err != nil || s.UID != uid {
		return given, err
	}
	err = json.Unmarshal(s.Status, &given)
	return given, err
}
