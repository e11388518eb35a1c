package service

import (
	"net/netip"
	"slices"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
)

// endpoint is one that a service's port leads to.
type endpoint struct {
	at          netip.AddrPort
	ready       bool
	terminating bool // and serving yet
	node        string
	hints       *discovery.EndpointHints
}

func (e endpoint) usable() bool { return e.ready || e.terminating }

// endpointsOf are a port's endpoints of one family, each once: one that is in
// two slices, as it goes from one to the other, is ready if one says so.
func endpointsOf(list []*discovery.EndpointSlice, port *v1.ServicePort, is4 bool) (all []endpoint) {
	family := discovery.AddressTypeIPv6
	if is4 {
		family = discovery.AddressTypeIPv4
	}
	at := make(map[netip.AddrPort]int)
	for _, slice := range list {
		if slice.AddressType != family {
			continue
		}
		for _, p := range slice.Ports {
			if p.Port == nil || value(p.Name) != port.Name || p.Protocol != nil && *p.Protocol != port.Protocol {
				continue
			}
			for i := range slice.Endpoints {
				e, ok := endpointAt(&slice.Endpoints[i], uint16(*p.Port))
				if !ok {
					continue
				}
				old, twice := at[e.at]
				switch {
				case !twice:
					at[e.at] = len(all)
					all = append(all, e)
				case !all[old].ready:
					all[old] = e
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b endpoint) int { return a.at.Compare(b.at) })
	return all
}

func endpointAt(e *discovery.Endpoint, port uint16) (endpoint, bool) {
	if len(e.Addresses) == 0 {
		return endpoint{}, false
	}
	addr, err := netip.ParseAddr(e.Addresses[0]) // all of them are the same endpoint's
	if err != nil {
		return endpoint{}, false
	}
	c := e.Conditions
	ready := c.Ready == nil || *c.Ready
	serving := ready
	if c.Serving != nil {
		serving = *c.Serving
	}
	return endpoint{
		at: netip.AddrPortFrom(addr.Unmap(), port), ready: ready, terminating: serving && value(c.Terminating),
		node: value(e.NodeName), hints: e.Hints,
	}, true
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// choose takes those that connections may lead to: of all nodes, and of this
// one. Where none is ready, those that end and still serve are better than none
// (KEP-1669).
func choose(all []endpoint, n Node) (cluster, local []netip.AddrPort) {
	near := hinted(all, n)
	cluster = atOf(all, func(e endpoint) bool { return e.ready && near(e) })
	if len(cluster) == 0 {
		cluster = atOf(all, func(e endpoint) bool { return e.terminating })
	}
	local = atOf(all, func(e endpoint) bool { return e.ready && e.node == n.Name })
	if len(local) == 0 {
		local = atOf(all, func(e endpoint) bool { return e.terminating && e.node == n.Name })
	}
	return cluster, local
}

func atOf(all []endpoint, ok func(endpoint) bool) (list []netip.AddrPort) {
	for _, e := range all {
		if ok(e) {
			list = append(list, e.at)
		}
	}
	return list
}

// hinted says which of the ready endpoints are for this node. Hints count if all
// of them have some, and one is for here (KEP-2433, KEP-3015).
func hinted(all []endpoint, n Node) func(endpoint) bool {
	toNode := func(e endpoint) bool {
		return slices.ContainsFunc(e.hints.ForNodes, func(h discovery.ForNode) bool { return h.Name == n.Name })
	}
	toZone := func(e endpoint) bool {
		return slices.ContainsFunc(e.hints.ForZones, func(h discovery.ForZone) bool { return h.Name == n.Zone })
	}
	nodes, zones, node, zone := true, true, false, false
	for _, e := range all {
		if !e.ready {
			continue
		}
		if e.hints == nil {
			return func(endpoint) bool { return true }
		}
		nodes, zones = nodes && len(e.hints.ForNodes) > 0, zones && len(e.hints.ForZones) > 0
		node, zone = node || toNode(e), zone || toZone(e)
	}
	switch {
	case nodes && node:
		return toNode
	case zones && zone:
		return toZone
	}
	return func(endpoint) bool { return true }
}
