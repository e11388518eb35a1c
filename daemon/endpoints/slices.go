// Package endpoints derives the EndpointSlices of Services from the pods that
// they select: Kubernetes' endpointslice controller
// (k8s.io/endpointslice) as a function of what a node sees.
//
// Every daemon derives all of them by itself, for its own view: nothing is
// published, so endpoints follow a pod's status as fast as that is known.
package endpoints

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// Values of the label endpointslice.kubernetes.io/managed-by: who made a slice.
const (
	ManagedByService   = "endpointslice-controller.k8s.io"          // from pods, by Slices
	ManagedByMirroring = "endpointslicemirroring-controller.k8s.io" // from an Endpoints object, by Mirror
)

// maxEndpoints is how many endpoints one slice has at most: the API's limit.
const maxEndpoints = 1000

// Selects says whether a service has endpoints of its own making: those without
// a selector are given theirs.
func Selects(s *v1.Service) bool {
	return len(s.Spec.Selector) > 0 && s.Spec.Type != v1.ServiceTypeExternalName
}

// Has says whether a service's selector chooses a pod.
func Has(s *v1.Service, p *v1.Pod) bool {
	return Selects(s) && s.Namespace == p.Namespace && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Labels))
}

// Slices are those of a service that selects these pods of its namespace, others
// among them or not; node finds a pod's node, nil for one that is unknown. What
// is equal in its input comes out equal.
func Slices(s *v1.Service, pods []*v1.Pod, node func(name string) *v1.Node) []*discovery.EndpointSlice {
	if !Selects(s) {
		return nil
	}
	var list []*discovery.EndpointSlice
	for _, family := range families(s) {
		byPorts := make(map[string][]discovery.Endpoint)
		ports := make(map[string][]discovery.EndpointPort)
		for _, p := range pods {
			if !Has(s, p) || ended(p) {
				continue
			}
			addr, ok := address(p, family)
			if !ok {
				continue
			}
			its := portsOf(s, p)
			key := portsKey(its)
			ports[key] = its
			byPorts[key] = append(byPorts[key], endpoint(s, p, addr, node(p.Spec.NodeName)))
		}
		if len(byPorts) == 0 { // upstream keeps one as a placeholder
			byPorts[""], ports[""] = nil, nil
		}
		for _, key := range slices.Sorted(maps.Keys(byPorts)) {
			all := byPorts[key]
			slices.SortFunc(all, func(a, b discovery.Endpoint) int {
				return cmp.Or(cmp.Compare(a.TargetRef.Name, b.TargetRef.Name), cmp.Compare(a.Addresses[0], b.Addresses[0]))
			})
			for n := 0; n == 0 || len(all) > 0; n++ {
				part := all[:min(len(all), maxEndpoints)]
				all = all[len(part):]
				list = append(list, slice(s, family, fmt.Sprint(key, " ", n), part, ports[key]))
			}
		}
	}
	return list
}

// families are those of a service's endpoints: of its cluster IPs, or as it asks.
func families(s *v1.Service) []discovery.AddressType {
	var list []discovery.AddressType
	for _, f := range s.Spec.IPFamilies {
		list = append(list, discovery.AddressType(f))
	}
	if len(list) == 0 {
		list = append(list, discovery.AddressTypeIPv4)
	}
	return list
}

// ended says whether a pod's containers have ended for good: its address may be
// another's by now.
func ended(p *v1.Pod) bool {
	return p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed
}

// address is a pod's first of a family.
func address(p *v1.Pod, family discovery.AddressType) (string, bool) {
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil && a.Unmap().Is4() == (family == discovery.AddressTypeIPv4) {
			return ip.IP, true
		}
	}
	return "", false
}

// portsOf are a service's ports as a pod has them: names of target ports are its
// own. A port of which it has none is left out.
func portsOf(s *v1.Service, p *v1.Pod) []discovery.EndpointPort {
	var list []discovery.EndpointPort
	for i := range s.Spec.Ports {
		port := &s.Spec.Ports[i]
		if target, ok := targetPort(p, port); ok {
			list = append(list, discovery.EndpointPort{Name: &port.Name, Protocol: &port.Protocol, Port: &target, AppProtocol: port.AppProtocol})
		}
	}
	return list
}

// targetPort is a service's port on a pod: a number, or the name of a port of one
// of its containers, sidecars included.
func targetPort(p *v1.Pod, port *v1.ServicePort) (number int32, ok bool) {
	if port.TargetPort.Type == intstr.Int {
		return port.TargetPort.IntVal, true
	}
	for c, kind := range podutil.ContainerIter(&p.Spec, podutil.Containers|podutil.InitContainers) {
		if kind == podutil.InitContainers && !podutil.IsRestartableInitContainer(c) {
			continue
		}
		for _, its := range c.Ports {
			if its.Name == port.TargetPort.StrVal && its.Protocol == port.Protocol {
				return its.ContainerPort, true
			}
		}
	}
	return 0, false
}

// portsKey tells sets of ports apart.
func portsKey(list []discovery.EndpointPort) string {
	var b strings.Builder
	for _, p := range list {
		fmt.Fprintf(&b, "%s/%s/%d ", *p.Name, *p.Protocol, *p.Port)
	}
	return b.String()
}

// endpoint is a pod as one (podToEndpoint of k8s.io/endpointslice).
func endpoint(s *v1.Service, p *v1.Pod, addr string, node *v1.Node) discovery.Endpoint {
	serving := podutil.IsPodReady(p)
	terminating := p.DeletionTimestamp != nil
	ready := s.Spec.PublishNotReadyAddresses || serving && !terminating
	e := discovery.Endpoint{
		Addresses:  []string{addr},
		Conditions: discovery.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &v1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
	}
	if p.Spec.NodeName != "" {
		e.NodeName = &p.Spec.NodeName
	}
	if p.Spec.Hostname != "" && p.Spec.Subdomain == s.Name {
		e.Hostname = &p.Spec.Hostname
	}
	if node != nil && node.Labels[v1.LabelTopologyZone] != "" {
		zone := node.Labels[v1.LabelTopologyZone]
		e.Zone = &zone
	}
	if ready {
		e.Hints = hints(s, e)
	}
	return e
}

// hints are for whom an endpoint is (KEP-4444, KEP-3015).
func hints(s *v1.Service, e discovery.Endpoint) *discovery.EndpointHints {
	if s.Spec.TrafficDistribution == nil {
		return nil
	}
	var h discovery.EndpointHints
	switch *s.Spec.TrafficDistribution {
	case v1.ServiceTrafficDistributionPreferSameNode:
		if e.NodeName != nil {
			h.ForNodes = []discovery.ForNode{{Name: *e.NodeName}}
		}
		fallthrough
	case v1.ServiceTrafficDistributionPreferSameZone, v1.ServiceTrafficDistributionPreferClose:
		if e.Zone != nil {
			h.ForZones = []discovery.ForZone{{Name: *e.Zone}}
		}
	}
	if len(h.ForNodes)+len(h.ForZones) == 0 {
		return nil
	}
	return &h
}

// slice is one, named after what tells it from the service's others.
func slice(s *v1.Service, family discovery.AddressType, key string, list []discovery.Endpoint, ports []discovery.EndpointPort) *discovery.EndpointSlice {
	e := named(s, s, family, key, ManagedByService)
	e.Endpoints, e.Ports = list, ports
	if s.Spec.ClusterIP == v1.ClusterIPNone {
		e.Labels[v1.IsHeadlessService] = ""
	}
	return e
}

// named is an empty slice of a service, made from another object or the service
// itself.
func named(s *v1.Service, from view.Object, family discovery.AddressType, key, by string) *discovery.EndpointSlice {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s %s %s %s", from.GetUID(), by, family, key)
	yes := true
	e := &discovery.EndpointSlice{AddressType: family}
	e.SetGroupVersionKind(discovery.SchemeGroupVersion.WithKind("EndpointSlice"))
	e.Namespace, e.Name = s.Namespace, fmt.Sprintf("%s-%08x", s.Name[:min(len(s.Name), 240)], h.Sum32())
	e.UID = view.ChildUID(manifests.Key{Group: discovery.GroupName, Kind: "EndpointSlice", Namespace: e.Namespace, Name: e.Name}, from.GetUID())
	e.CreationTimestamp = from.GetCreationTimestamp()
	e.Labels = maps.Clone(from.GetLabels())
	if e.Labels == nil {
		e.Labels = make(map[string]string)
	}
	e.Labels[discovery.LabelServiceName], e.Labels[discovery.LabelManagedBy] = s.Name, by
	gvk := v1.SchemeGroupVersion.WithKind("Service")
	if by == ManagedByMirroring {
		gvk.Kind = "Endpoints"
	}
	e.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Name: from.GetName(), UID: from.GetUID(), Controller: &yes, BlockOwnerDeletion: &yes,
	}}
	return e
}
