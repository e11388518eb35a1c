package daemon

import (
	"cmp"
	"context"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/dnsd"
	"github.com/shoal-project/shoal/manifests"
)

var sliceKind = discovery.SchemeGroupVersion.WithKind("EndpointSlice").GroupKind()

// names keeps a DNS zone what the view says, one pod or one service at a time.
// One goroutine uses it.
type names struct {
	view   *view.View
	zone   *dnsd.Zone
	search func(*v1.Pod) []string // the search list that a pod's questions come with
	slices map[types.NamespacedName]map[string]*discovery.EndpointSlice
	known  map[types.NamespacedName]edition // of the services in the zone
}

// edition tells one state of a service and its slices from all others: whatever
// is new has a greater version than all before, and what is gone is one less.
type edition struct {
	newest  uint64
	objects int
}

func newNames(v *view.View, c dnsd.Cluster, search func(*v1.Pod) []string) *names {
	return &names{view: v, zone: dnsd.Build(c), search: search, known: make(map[types.NamespacedName]edition)}
}

// follow does what changed after version again, or all where that is no longer
// known. It returns the version that the zone has, and a channel that is closed
// when there is a newer one.
func (n *names) follow(version uint64) (uint64, <-chan struct{}) {
	for {
		events, changed, err := n.view.Since(version)
		switch {
		case err != nil:
			version = n.all()
		case len(events) > 0:
			n.notice(events)
			version = events[len(events)-1].Version
		default:
			return version, changed
		}
	}
}

// notice does what events are about again.
func (n *names) notice(events []view.Event) {
	services := make(map[types.NamespacedName]bool)
	for _, e := range events {
		switch e.Key.GroupKind() {
		case podKind:
			n.pod(e.Key)
		case workload.KindService:
			services[types.NamespacedName{Namespace: e.Key.Namespace, Name: e.Key.Name}] = true
		case sliceKind:
			for _, o := range []view.Object{e.Old, e.Object} {
				s, ok := o.(*discovery.EndpointSlice)
				if ok {
					services[serviceOf(s)] = true
					delete(n.slices[serviceOf(s)], s.Name)
				}
			}
			if s, ok := e.Object.(*discovery.EndpointSlice); ok && e.Type != watch.Deleted {
				n.keep(s)
			}
		}
	}
	for name := range services {
		n.service(name)
	}
}

// all makes the zone what the view says, whatever it was, and returns the
// view's version before it began.
func (n *names) all() uint64 {
	list, version := n.view.List(sliceKind, "")
	n.slices = make(map[types.NamespacedName]map[string]*discovery.EndpointSlice)
	for _, o := range list {
		if s, ok := o.(*discovery.EndpointSlice); ok {
			n.keep(s)
		}
	}
	services, pods := n.zone.Sources()
	list, _ = n.view.List(workload.KindService, "")
	for _, o := range list {
		services = append(services, types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()})
	}
	list, _ = n.view.List(podKind, "")
	for _, o := range list {
		pods = append(pods, types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()})
	}
	for _, name := range services {
		n.service(name)
	}
	for _, name := range pods {
		n.pod(manifests.Key{Kind: "Pod", Namespace: name.Namespace, Name: name.Name})
	}
	return version
}

// serviceOf is the service that a slice belongs to; without a name: none.
func serviceOf(s *discovery.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discovery.LabelServiceName]}
}

func (n *names) keep(s *discovery.EndpointSlice) {
	name := serviceOf(s)
	if name.Name == "" {
		return
	}
	if n.slices[name] == nil {
		n.slices[name] = make(map[string]*discovery.EndpointSlice)
	}
	n.slices[name][s.Name] = s
}

func (n *names) service(name types.NamespacedName) {
	if len(n.slices[name]) == 0 {
		delete(n.slices, name)
	}
	o, _ := n.view.Get(manifests.Key{Kind: "Service", Namespace: name.Namespace, Name: name.Name})
	s, ok := o.(*v1.Service)
	if !ok {
		delete(n.known, name)
		n.zone.RemoveService(name.Namespace, name.Name)
		return
	}
	now := editionOf(s, n.slices[name])
	if n.known[name] == now {
		return
	}
	n.known[name] = now
	n.zone.SetService(serviceNames(s, slices.Collect(maps.Values(n.slices[name]))))
}

func (n *names) pod(key manifests.Key) {
	o, _ := n.view.Get(key)
	p, ok := o.(*v1.Pod)
	if !ok || p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed || len(p.Status.PodIPs) == 0 {
		n.zone.RemovePod(key.Namespace, key.Name) // its addresses may be another's by now
		return
	}
	entry := dnsd.Pod{Namespace: p.Namespace, Name: p.Name, HostNetwork: p.Spec.HostNetwork, Search: n.search(p)}
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			entry.Addrs = append(entry.Addrs, a)
		}
	}
	n.zone.SetPod(entry)
}

func editionOf(s *v1.Service, list map[string]*discovery.EndpointSlice) edition {
	e := edition{objects: 1 + len(list)}
	see := func(o view.Object) {
		version, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
		if err != nil {
			panic("daemon: an object of the view has no version") // the view gives it
		}
		e.newest = max(e.newest, version)
	}
	see(s)
	for _, slice := range list {
		see(slice)
	}
	return e
}

// serviceNames is what DNS needs to know of a service and its slices.
func serviceNames(s *v1.Service, list []*discovery.EndpointSlice) dnsd.Service {
	service := dnsd.Service{Namespace: s.Namespace, Name: s.Name, PublishNotReady: s.Spec.PublishNotReadyAddresses}
	switch {
	case s.Spec.Type == v1.ServiceTypeExternalName:
		service.ExternalName = s.Spec.ExternalName
	case s.Spec.ClusterIP == v1.ClusterIPNone:
		service.Headless = true
		for _, slice := range list {
			service.Groups = append(service.Groups, endpointNames(slice))
		}
	default:
		ips := s.Spec.ClusterIPs
		if len(ips) == 0 {
			ips = []string{s.Spec.ClusterIP}
		}
		for _, ip := range ips {
			if a, err := netip.ParseAddr(ip); err == nil {
				service.ClusterIPs = append(service.ClusterIPs, a)
			}
		}
		for _, p := range s.Spec.Ports {
			service.Ports = append(service.Ports, dnsd.Port{Name: p.Name, Protocol: string(cmp.Or(p.Protocol, v1.ProtocolTCP)), Number: uint16(p.Port)})
		}
	}
	return service
}

// endpointNames leaves out what is no address, as in slices of type FQDN.
func endpointNames(s *discovery.EndpointSlice) (g dnsd.Group) {
	for _, p := range s.Ports {
		if p.Name == nil || p.Port == nil {
			continue
		}
		port := dnsd.Port{Name: *p.Name, Protocol: string(v1.ProtocolTCP), Number: uint16(*p.Port)}
		if p.Protocol != nil {
			port.Protocol = string(*p.Protocol)
		}
		g.Ports = append(g.Ports, port)
	}
	for _, e := range s.Endpoints {
		one := dnsd.Endpoint{NotReady: e.Conditions.Ready != nil && !*e.Conditions.Ready}
		if e.Hostname != nil {
			one.Hostname = *e.Hostname
		}
		for _, ip := range e.Addresses {
			if a, err := netip.ParseAddr(ip); err == nil {
				one.Addr = a
				g.Endpoints = append(g.Endpoints, one)
			}
		}
	}
	return g
}

// maxResolvConf is how much is read of a pod's resolv.conf, which its containers
// may write to: twice what shoald writes at most.
const maxResolvConf = 8 << 10

// searchOf is the search list that a pod of this node has in its resolv.conf;
// none of other nodes' pods, nor of one that wants its questions answered as
// they stand.
func (h *host) searchOf(p *v1.Pod) []string {
	if p.Spec.NodeName != h.d.Config.Node || p.Spec.HostNetwork || p.Annotations[manifests.AnnotationDNSSearch] == manifests.DNSSearchClient {
		return nil
	}
	r, err := h.readResolvOf(p)
	if err != nil {
		return nil // its sandbox is not there yet, or no longer
	}
	return r.Searches
}

// readResolvOf reads the resolv.conf of a pod of this node.
func (h *host) readResolvOf(p *v1.Pod) (dnsd.Resolv, error) {
	f, err := os.Open(h.d.path("run/shoal/pods/" + string(p.UID) + "/etc-resolv.conf"))
	if err != nil {
		return dnsd.Resolv{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxResolvConf))
	return dnsd.ParseResolv(b), err
}

// serveDNS answers pods' questions, from the view, until ctx ends. They ask the
// pod network's addresses: without it there is nobody to answer.
func (h *host) serveDNS(ctx context.Context) {
	select {
	case <-h.network.opened:
	case <-ctx.Done():
		return
	}
	n := newNames(h.d.view, dnsd.Cluster{
		Domain: h.d.Config.Domain, CIDRs: slices.Concat(h.d.Config.Network.ClusterCIDRs, h.d.Config.Network.ServiceCIDRs), Nameservers: h.nameservers(),
	}, h.searchOf)
	version := n.all()
	h.newDNS(ctx, n.zone)
	for {
		var changed <-chan struct{}
		version, changed = n.follow(version)
		select {
		case <-changed:
		case <-h.ways.moved: // the former one goes on, for pods that have its address
			n.zone.SetNameservers(h.nameservers())
			h.newDNS(ctx, n.zone)
		case <-ctx.Done():
			return
		}
	}
}

// newDNS is a server at the pod network's addresses of now.
func (h *host) newDNS(ctx context.Context, zone *dnsd.Zone) {
	server := dnsd.New(h.dnsConfig(), h.d.Log)
	server.SetZone(zone)
	h.dns.Store(server)
	go func() {
		if err := server.Serve(ctx); err != nil {
			h.d.Log.Error("DNS ended", "err", err)
		}
	}()
}
