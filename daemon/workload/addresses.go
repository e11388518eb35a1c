package workload

import (
	"cmp"
	"net/netip"
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// Addresses knows which services have which cluster IPs and node ports. The zero
// value knows none.
type Addresses struct {
	byAddr map[netip.Addr]map[manifests.Key]*v1.Service
	byPort map[int32]map[manifests.Key]*v1.Service
}

// Notice follows the view, and gives the services that have an address or port in
// common with one that has changed: theirs may be free now, or no longer their own.
func (a *Addresses) Notice(key manifests.Key, old, now view.Object) (others []manifests.Key) {
	if key.GroupKind() != KindService {
		return nil
	}
	if a.byAddr == nil {
		a.byAddr, a.byPort = make(map[netip.Addr]map[manifests.Key]*v1.Service), make(map[int32]map[manifests.Key]*v1.Service)
	}
	was, had := old.(*v1.Service)
	is, has := now.(*v1.Service)
	same := had && has && was.CreationTimestamp.Equal(&is.CreationTimestamp) &&
		slices.Equal(clusterIPs(was), clusterIPs(is)) && slices.Equal(nodePorts(was), nodePorts(is))
	seen := map[manifests.Key]bool{key: true}
	note := func(all map[manifests.Key]*v1.Service) {
		for other := range all {
			if !seen[other] {
				seen[other] = true
				others = append(others, other)
			}
		}
	}
	if had {
		for _, ip := range clusterIPs(was) {
			note(drop(a.byAddr, ip, key))
		}
		for _, port := range nodePorts(was) {
			note(drop(a.byPort, port, key))
		}
	}
	if has {
		for _, ip := range clusterIPs(is) {
			note(put(a.byAddr, ip, key, is))
		}
		for _, port := range nodePorts(is) {
			note(put(a.byPort, port, key, is))
		}
	}
	if same {
		return nil
	}
	return others
}

func put[K comparable](m map[K]map[manifests.Key]*v1.Service, k K, key manifests.Key, s *v1.Service) map[manifests.Key]*v1.Service {
	if m[k] == nil {
		m[k] = make(map[manifests.Key]*v1.Service)
	}
	m[k][key] = s
	return m[k]
}

func drop[K comparable](m map[K]map[manifests.Key]*v1.Service, k K, key manifests.Key) map[manifests.Key]*v1.Service {
	left := m[k]
	if delete(left, key); len(left) == 0 {
		delete(m, k)
	}
	return left
}

// taken says whether another service has an address, and whether that one is
// older: then it is its own.
func taken(all map[manifests.Key]*v1.Service, s *v1.Service) (by *v1.Service, older bool) {
	for _, other := range all {
		if other.Namespace == s.Namespace && other.Name == s.Name {
			continue
		}
		if by == nil || before(other, by) {
			by = other
		}
	}
	return by, by != nil && before(by, s)
}

// before is the order in which services get what several want: as proxy/service
// has it.
func before(a, b *v1.Service) bool {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name)) < 0
}

// clusterIPs are a service's that can be read, without "None".
func clusterIPs(s *v1.Service) (list []netip.Addr) {
	texts := s.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{s.Spec.ClusterIP}
	}
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			list = append(list, a.Unmap())
		}
	}
	return list
}

func nodePorts(s *v1.Service) (list []int32) {
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			list = append(list, p.NodePort)
		}
	}
	return list
}

// Own is a service without the cluster IPs and node ports that are not its own:
// they are out of range, or an older service has them.
func (a *Addresses) Own(s *v1.Service, cidrs []netip.Prefix, ports PortRange) *v1.Service {
	s = s.DeepCopy()
	var ips []string
	for _, ip := range clusterIPs(s) {
		in := slices.ContainsFunc(cidrs, func(p netip.Prefix) bool { return p.Contains(ip) })
		if _, older := taken(a.byAddr[ip], s); in && !older {
			ips = append(ips, ip.String())
		}
	}
	if s.Spec.ClusterIP != v1.ClusterIPNone {
		s.Spec.ClusterIPs, s.Spec.ClusterIP = ips, ""
		if len(ips) > 0 {
			s.Spec.ClusterIP = ips[0]
		}
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if _, older := taken(a.byPort[p.NodePort], s); older || !ports.Has(p.NodePort) {
			p.NodePort = 0
		}
	}
	return s
}
