package workload

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/view"
)

// ConditionAllocated is the condition of a service that can't have what it asks
// for; others have none of that type.
const ConditionAllocated = "shoal.io/Allocated"

// Services is what services get their addresses and node ports from.
type Services struct {
	CIDRs     []netip.Prefix // at most one of each family; the first one's is the default
	NodePorts PortRange
	Addresses *Addresses
	Given     func(*v1.Service) view.ServiceStatus // what is said of a service so far
}

// PortRange are ports, First to Last.
type PortRange struct{ First, Last int32 }

// Has says whether a port is one of the range.
func (r PortRange) Has(port int32) bool { return r.First <= port && port <= r.Last }

func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// service gives a service its cluster IPs and node ports.
//
// What it gets follows from its name, where that is free (so a cluster that is
// made anew from the same files has the same addresses), and is kept. What it
// names itself it gets, unless that lies out of range or an older service has it:
// then it says so, and the older one goes on.
func (c Cluster) service(s *v1.Service) (out Outcome) {
	if c.Services == nil {
		return out
	}
	given := c.Services.Given(s)
	a := allocation{Services: c.Services, s: s, given: given}
	next := a.allocate()
	next.Status = *s.Status.DeepCopy()
	if s.Spec.Type != v1.ServiceTypeLoadBalancer {
		next.Status.LoadBalancer = v1.LoadBalancerStatus{}
	}
	if message := strings.Join(a.problems, "; "); message == "" {
		meta.RemoveStatusCondition(&next.Status.Conditions, ConditionAllocated)
	} else if meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: ConditionAllocated, Status: metav1.ConditionFalse, Reason: a.reason, Message: message, ObservedGeneration: s.Generation, LastTransitionTime: metav1.NewTime(c.Now),
	}) {
		out.event(s, v1.EventTypeWarning, a.reason, message)
	}
	if !equality.Semantic.DeepEqual(next, given) {
		out.Changes = append(out.Changes, Change{Verb: Status, Object: s, Given: &next})
	}
	return out
}

// allocation is one service's, as it is made.
type allocation struct {
	*Services
	s        *v1.Service
	given    view.ServiceStatus
	reason   string // of the first problem
	problems []string
}

// Reasons of events about what a service can't have; the first four are those of
// upstream's repair controllers (pkg/registry/core/service/{ipallocator,portallocator}/controller).
const (
	reasonIPOutOfRange   = "ClusterIPOutOfRange"
	reasonIPTaken        = "ClusterIPAlreadyAllocated"
	reasonPortOutOfRange = "PortOutOfRange"
	reasonPortTaken      = "PortAlreadyAllocated"
	reasonRangeFull      = "AllocationFailed"
	reasonNoSuchFamily   = "InvalidIPFamily"
)

func (a *allocation) problem(reason, format string, args ...any) {
	if a.reason == "" {
		a.reason = reason
	}
	a.problems = append(a.problems, fmt.Sprintf(format, args...))
}

func (a *allocation) allocate() (next view.ServiceStatus) {
	if a.s.Spec.Type == v1.ServiceTypeExternalName || len(a.CIDRs) == 0 {
		return next
	}
	next.IPFamilyPolicy, next.IPFamilies = a.families()
	if a.s.Spec.ClusterIP != v1.ClusterIPNone {
		for i, family := range next.IPFamilies {
			ip := a.clusterIP(i, family)
			if ip == "" {
				break
			}
			next.ClusterIPs = append(next.ClusterIPs, ip)
		}
	}
	if a.needsNodePorts() {
		next.NodePorts = a.nodePorts()
	}
	return next
}

// families are those of a service's addresses (upstream's
// defaultOnReadInternalIPFamilies and initIPFamilyFields in
// pkg/registry/core/service/storage/alloc.go).
func (a *allocation) families() (policy v1.IPFamilyPolicy, list []v1.IPFamily) {
	spec := &a.s.Spec
	policy = v1.IPFamilyPolicySingleStack
	if spec.IPFamilyPolicy != nil {
		policy = *spec.IPFamilyPolicy
	} else if spec.ClusterIP == v1.ClusterIPNone && len(spec.Selector) == 0 || len(spec.IPFamilies) == 2 || len(spec.ClusterIPs) == 2 {
		policy = v1.IPFamilyPolicyRequireDualStack
		if len(spec.IPFamilies) < 2 && len(spec.ClusterIPs) < 2 {
			policy = v1.IPFamilyPolicyPreferDualStack // of a headless one without selector, whatever the cluster has
		}
	}
	switch ips := clusterIPs(a.s); {
	case len(spec.IPFamilies) > 0:
		list = append(list, spec.IPFamilies[0])
	case len(ips) > 0:
		list = append(list, familyOf(ips[0]))
	default:
		list = append(list, familyOf(a.CIDRs[0].Addr()))
	}
	if _, is := a.cidr(list[0]); !is {
		a.problem(reasonNoSuchFamily, "spec.ipFamilies[0]: Invalid value: %q: not configured on this cluster (network.service_cidrs in shoal.toml)", list[0])
		return policy, list
	}
	if policy == v1.IPFamilyPolicySingleStack {
		return policy, list
	}
	for _, p := range a.CIDRs {
		if f := familyOf(p.Addr()); f != list[0] {
			return policy, append(list, f)
		}
	}
	if policy == v1.IPFamilyPolicyRequireDualStack {
		a.problem(reasonNoSuchFamily, "spec.ipFamilyPolicy: Invalid value: %q: this cluster is not configured for dual-stack services (network.service_cidrs in shoal.toml)", policy)
	}
	return policy, list
}

func familyOf(a netip.Addr) v1.IPFamily {
	if a.Is4() {
		return v1.IPv4Protocol
	}
	return v1.IPv6Protocol
}

func (a *allocation) cidr(family v1.IPFamily) (netip.Prefix, bool) {
	i := slices.IndexFunc(a.CIDRs, func(p netip.Prefix) bool { return familyOf(p.Addr()) == family })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return a.CIDRs[i], true
}

// clusterIP is the i-th one, "" for none.
func (a *allocation) clusterIP(i int, family v1.IPFamily) string {
	p, ok := a.cidr(family)
	if !ok {
		return ""
	}
	has, err := netip.ParseAddr(a.named(i))
	own := err == nil && i < len(a.given.ClusterIPs) && a.given.ClusterIPs[i] == a.named(i)
	by, older := taken(a.Addresses.byAddr[has.Unmap()], a.s)
	switch {
	case err == nil && p.Contains(has) && !older:
		return has.String()
	case err != nil || own:
		return a.freeIP(p)
	case !p.Contains(has):
		a.problem(reasonIPOutOfRange, "spec.clusterIPs[%d]: Invalid value: %q: the provided IP is not in the range %s of this cluster (network.service_cidrs in shoal.toml): it leads nowhere", i, has, p)
	default:
		a.problem(reasonIPTaken, "spec.clusterIPs[%d]: Invalid value: %q: provided IP is already allocated: service %s/%s, which is older, has it", i, has, by.Namespace, by.Name)
	}
	return ""
}

// named is the i-th cluster IP in the spec, which may be one that was given.
func (a *allocation) named(i int) string {
	if i < len(a.s.Spec.ClusterIPs) {
		return a.s.Spec.ClusterIPs[i]
	}
	if i == 0 {
		return a.s.Spec.ClusterIP
	}
	return ""
}

// freeIP looks for a free one. The lower part of the range is left to those who
// name theirs (KEP-3070) while the rest has room.
func (a *allocation) freeIP(p netip.Prefix) string {
	size := uint64(1) << min(p.Addr().BitLen()-p.Bits(), 20)
	first, last := uint64(1), size-1
	if p.Addr().Is4() {
		last-- // broadcast
	}
	static := min(max(16, size/16), 256)
	i, ok := search(a.hash(p.String()), first, last, first+static, func(i uint64) bool {
		by, _ := taken(a.Addresses.byAddr[nth(p, i)], a.s)
		return by == nil
	})
	if !ok {
		a.problem(reasonRangeFull, "failed to allocate IP: the range %s is full (network.service_cidrs in shoal.toml)", p)
		return ""
	}
	return nth(p, i).String()
}

// nth is the i-th address of a range.
func nth(p netip.Prefix, i uint64) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	low := bytes[max(0, len(bytes)-8):]
	if len(low) == 4 {
		binary.BigEndian.PutUint32(low, binary.BigEndian.Uint32(low)+uint32(i))
	} else {
		binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)+i)
	}
	a, _ := netip.AddrFromSlice(bytes)
	return a
}

// search finds what is free between first and last: from where the hash points
// to above split, and below it only when all of that is taken.
func search(hash, first, last, split uint64, free func(uint64) bool) (uint64, bool) {
	for _, part := range [][2]uint64{{split, last}, {first, min(split-1, last)}} {
		if part[0] > part[1] {
			continue
		}
		n := part[1] - part[0] + 1
		for i := range n {
			if at := part[0] + (hash+i)%n; free(at) {
				return at, true
			}
		}
	}
	return 0, false
}

// hash is where the service's name points to.
func (a *allocation) hash(salt string) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s/%s", salt, a.s.Namespace, a.s.Name)
	return h.Sum64()
}

func (a *allocation) needsNodePorts() bool {
	switch s := &a.s.Spec; s.Type {
	case v1.ServiceTypeNodePort:
		return true
	case v1.ServiceTypeLoadBalancer:
		return s.AllocateLoadBalancerNodePorts == nil || *s.AllocateLoadBalancerNodePorts
	}
	return false
}

// nodePorts are those of the ports, by name.
func (a *allocation) nodePorts() map[string]int32 {
	ports := make(map[string]int32)
	mine := make(map[int32]bool)
	for i, p := range a.s.Spec.Ports {
		own := p.NodePort != 0 && a.given.NodePorts[p.Name] == p.NodePort
		by, older := taken(a.Addresses.byPort[p.NodePort], a.s)
		switch {
		case p.NodePort != 0 && a.NodePorts.Has(p.NodePort) && !older:
			ports[p.Name] = p.NodePort
		case p.NodePort == 0 || own:
			port, ok := a.freePort(p.Name, mine)
			if !ok {
				a.problem(reasonRangeFull, "failed to allocate a node port: the range %s is full (network.node_port_range in shoal.toml)", a.NodePorts)
				continue
			}
			ports[p.Name] = port
		case !a.NodePorts.Has(p.NodePort):
			a.problem(reasonPortOutOfRange, "spec.ports[%d].nodePort: Invalid value: %d: provided port is not in the valid range. The range of valid ports is %s (network.node_port_range in shoal.toml)", i, p.NodePort, a.NodePorts)
		default:
			a.problem(reasonPortTaken, "spec.ports[%d].nodePort: Invalid value: %d: provided port is already allocated: service %s/%s, which is older, has it", i, p.NodePort, by.Namespace, by.Name)
		}
		if port := ports[p.Name]; port != 0 {
			mine[port] = true
		}
	}
	if len(ports) == 0 {
		return nil
	}
	return maps.Clone(ports)
}

// freePort looks for a free one; the lower part of the range comes last
// (KEP-3668).
func (a *allocation) freePort(name string, mine map[int32]bool) (int32, bool) {
	size := uint64(a.NodePorts.Last-a.NodePorts.First) + 1
	static := min(max(16, size/32), 128, size)
	i, ok := search(a.hash(name), 0, size-1, static, func(i uint64) bool {
		port := a.NodePorts.First + int32(i)
		by, _ := taken(a.Addresses.byPort[port], a.s)
		return by == nil && !mine[port]
	})
	return a.NodePorts.First + int32(i), ok
}
