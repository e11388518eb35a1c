package endpoints

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// skipMirror is the label of an Endpoints object that is not to be mirrored.
const skipMirror = "endpointslice.kubernetes.io/skip-mirror"

// Mirrored says whether slices are made from an Endpoints object: that of a
// service without a selector, unless it says otherwise.
func Mirrored(s *v1.Service, e *v1.Endpoints) bool {
	return len(s.Spec.Selector) == 0 && e.Labels[skipMirror] != "true"
}

// Mirror are the slices of a service to which people gave an Endpoints object
// (upstream's endpointslicemirroring controller).
func Mirror(s *v1.Service, e *v1.Endpoints) (list []*discovery.EndpointSlice) {
	if !Mirrored(s, e) {
		return nil
	}
	for n, subset := range e.Subsets {
		byFamily := make(map[discovery.AddressType][]discovery.Endpoint)
		add := func(addresses []v1.EndpointAddress, ready bool) {
			for _, a := range addresses {
				ip, err := netip.ParseAddr(a.IP)
				if err != nil {
					continue // validation stands before
				}
				family := discovery.AddressTypeIPv6
				if ip.Is4() {
					family = discovery.AddressTypeIPv4
				}
				one := discovery.Endpoint{Addresses: []string{a.IP}, Conditions: discovery.EndpointConditions{Ready: &ready}, TargetRef: a.TargetRef, NodeName: a.NodeName}
				if a.Hostname != "" {
					one.Hostname = &a.Hostname
				}
				byFamily[family] = append(byFamily[family], one)
			}
		}
		add(subset.Addresses, true)
		add(subset.NotReadyAddresses, false)
		var ports []discovery.EndpointPort
		for i := range subset.Ports {
			p := &subset.Ports[i]
			ports = append(ports, discovery.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &p.Port, AppProtocol: p.AppProtocol})
		}
		for _, family := range slices.Sorted(maps.Keys(byFamily)) {
			slice := named(s, e, family, fmt.Sprint(n), ManagedByMirroring)
			slice.Endpoints, slice.Ports = byFamily[family], ports
			list = append(list, slice)
		}
	}
	return list
}

// Endpoints is what a service's slices are in the older form, of its first
// family, for those who still read it.
func Endpoints(s *v1.Service, list []*discovery.EndpointSlice) *v1.Endpoints {
	e := &v1.Endpoints{}
	e.SetGroupVersionKind(v1.SchemeGroupVersion.WithKind("Endpoints"))
	e.Namespace, e.Name, e.CreationTimestamp = s.Namespace, s.Name, s.CreationTimestamp
	e.UID = view.ChildUID(manifests.Key{Kind: "Endpoints", Namespace: e.Namespace, Name: e.Name}, s.UID)
	e.Labels = maps.Clone(s.Labels)
	if e.Labels == nil {
		e.Labels = make(map[string]string)
	}
	e.Labels[discovery.LabelManagedBy] = "endpoint-controller"
	if s.Spec.ClusterIP == v1.ClusterIPNone {
		e.Labels[v1.IsHeadlessService] = ""
	}
	for _, slice := range list {
		if slice.AddressType != families(s)[0] || len(slice.Endpoints) == 0 {
			continue
		}
		var subset v1.EndpointSubset
		for _, one := range slice.Endpoints {
			a := v1.EndpointAddress{IP: one.Addresses[0], NodeName: one.NodeName, TargetRef: one.TargetRef}
			if one.Hostname != nil {
				a.Hostname = *one.Hostname
			}
			switch {
			case one.Conditions.Terminating != nil && *one.Conditions.Terminating && !s.Spec.PublishNotReadyAddresses:
			case *one.Conditions.Ready:
				subset.Addresses = append(subset.Addresses, a)
			default:
				subset.NotReadyAddresses = append(subset.NotReadyAddresses, a)
			}
		}
		for _, p := range slice.Ports {
			subset.Ports = append(subset.Ports, v1.EndpointPort{Name: *p.Name, Protocol: *p.Protocol, Port: *p.Port, AppProtocol: p.AppProtocol})
		}
		if len(subset.Addresses)+len(subset.NotReadyAddresses) > 0 {
			e.Subsets = append(e.Subsets, subset)
		}
	}
	slices.SortFunc(e.Subsets, func(a, b v1.EndpointSubset) int {
		return cmp.Compare(fmt.Sprint(a.Ports), fmt.Sprint(b.Ports))
	})
	return e
}
