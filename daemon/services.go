package daemon

import (
	"maps"
	"net/netip"
	"slices"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	"github.com/shoal-project/shoal/daemon/endpoints"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
	"github.com/shoal-project/shoal/proxy/service"
)

var endpointsKind = schema.GroupKind{Kind: "Endpoints"}

// services is what this node derives from Services: their endpoints, which only
// its own view has, and the rules that its kernel is to follow. It belongs to the
// loop.
type services struct {
	addresses workload.Addresses
	known     map[string]map[manifests.Key]*v1.Service                     // by namespace
	derived   map[manifests.Key]map[manifests.Key]view.Object              // by service: slices and Endpoints made from it
	declared  map[manifests.Key]map[manifests.Key]*discovery.EndpointSlice // by service: slices of people and programs
	dirty     map[manifests.Key]bool                                       // services to derive from anew
}

func newServices() services {
	return services{
		known: make(map[string]map[manifests.Key]*v1.Service), derived: make(map[manifests.Key]map[manifests.Key]view.Object),
		declared: make(map[manifests.Key]map[manifests.Key]*discovery.EndpointSlice), dirty: make(map[manifests.Key]bool),
	}
}

func serviceKey(namespace, name string) manifests.Key {
	return manifests.Key{Kind: workload.KindService.Kind, Namespace: namespace, Name: name}
}

// notice follows the view, and gives the services whose addresses are to be looked
// at again.
func (s *services) notice(key manifests.Key, old, now view.Object) (contested []manifests.Key) {
	switch key.GroupKind() {
	case workload.KindService:
		contested = s.addresses.Notice(key, old, now)
		for _, k := range append(contested, key) {
			s.dirty[k] = true
		}
		if is, _ := now.(*v1.Service); is != nil {
			if s.known[key.Namespace] == nil {
				s.known[key.Namespace] = make(map[manifests.Key]*v1.Service)
			}
			s.known[key.Namespace][key] = is
		} else {
			delete(s.known[key.Namespace], key)
		}
	case podKind:
		s.noticePod(key, old, now)
	case sliceKind:
		for _, o := range []view.Object{old, now} {
			if slice, is := o.(*discovery.EndpointSlice); is && slice != nil {
				s.noticeSlice(key, slice, now != nil && o == now)
			}
		}
	case endpointsKind:
		s.dirty[serviceKey(key.Namespace, key.Name)] = true
	case workload.KindNode:
		was, _ := old.(*v1.Node)
		is, _ := now.(*v1.Node)
		if was == nil || is == nil || was.Labels[v1.LabelTopologyZone] != is.Labels[v1.LabelTopologyZone] {
			s.all()
		}
	}
	return contested
}

// of is what an object was made from, "" for one that people made.
func (s *services) of(key manifests.Key) string {
	if kind := key.GroupKind(); kind != sliceKind && kind != endpointsKind {
		return ""
	}
	for from, all := range s.derived {
		if from.Namespace == key.Namespace && all[key] != nil {
			return "Service " + from.Namespace + "/" + from.Name
		}
	}
	return ""
}

// all has everything derived anew.
func (s *services) all() {
	for _, inNamespace := range s.known {
		for key := range inNamespace {
			s.dirty[key] = true
		}
	}
}

func (s *services) noticePod(key manifests.Key, old, now view.Object) {
	was, _ := old.(*v1.Pod)
	is, _ := now.(*v1.Pod)
	if was != nil && is != nil && !differs(was, is) {
		return
	}
	for k, svc := range s.known[key.Namespace] {
		if was != nil && endpoints.Has(svc, was) || is != nil && endpoints.Has(svc, is) {
			s.dirty[k] = true
		}
	}
}

// differs says whether endpoints may be other ones for what has become of a pod.
func differs(a, b *v1.Pod) bool {
	return a.UID != b.UID || a.Spec.NodeName != b.Spec.NodeName || a.Status.Phase != b.Status.Phase || podutil.IsPodReady(a) != podutil.IsPodReady(b) ||
		(a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) || !maps.Equal(a.Labels, b.Labels) || !slices.Equal(a.Status.PodIPs, b.Status.PodIPs)
}

func (s *services) noticeSlice(key manifests.Key, slice *discovery.EndpointSlice, is bool) {
	of := serviceKey(key.Namespace, slice.Labels[discovery.LabelServiceName])
	if !is {
		delete(s.declared[of], key)
	} else {
		if s.declared[of] == nil {
			s.declared[of] = make(map[manifests.Key]*discovery.EndpointSlice)
		}
		s.declared[of][key] = slice
	}
	if len(s.declared[of]) == 0 {
		delete(s.declared, of)
	}
	s.dirty[of] = true
}

// followServices derives anew what depends on what has changed, puts it into the
// view, and has the kernel follow.
func (d *Daemon) followServices() {
	if len(d.services.dirty) == 0 {
		d.lead.say(nil, d.records.Published())
		return
	}
	pods := make(map[string][]*v1.Pod) // by namespace
	var changes []view.Change
	wishes := make(map[service.Key]service.Wish)
	for key := range d.services.dirty {
		o, _ := d.view.Get(key)
		s, _ := o.(*v1.Service)
		if _, ok := pods[key.Namespace]; !ok && s != nil && endpoints.Selects(s) {
			list, _ := d.view.List(podKind, key.Namespace)
			pods[key.Namespace] = make([]*v1.Pod, len(list))
			for i, p := range list {
				pods[key.Namespace][i] = p.(*v1.Pod)
			}
		}
		changes = append(changes, d.derive(key, s, pods[key.Namespace])...)
		wishes[service.Key{Namespace: key.Namespace, Name: key.Name}] = d.wishFor(key, s)
	}
	clear(d.services.dirty)
	d.view.Apply(changes...)
	d.changed = d.changed || len(changes) > 0
	d.lead.say(wishes, d.records.Published())
}

// derive are the changes to the view that make it have what follows from a
// service, nil for one that is gone.
func (d *Daemon) derive(key manifests.Key, s *v1.Service, pods []*v1.Pod) (changes []view.Change) {
	was, is := d.services.derived[key], make(map[manifests.Key]view.Object)
	if s != nil {
		list := endpoints.Slices(s, pods, d.seenNode)
		given := manifests.Key{Kind: endpointsKind.Kind, Namespace: key.Namespace, Name: key.Name}
		o, _ := d.view.Get(given)
		if e, has := o.(*v1.Endpoints); has && was[given] == nil {
			list = append(list, endpoints.Mirror(s, e)...)
		} else if endpoints.Selects(s) {
			is[given] = endpoints.Endpoints(s, list)
		}
		for _, slice := range list {
			is[manifests.Key{Group: sliceKind.Group, Kind: sliceKind.Kind, Namespace: slice.Namespace, Name: slice.Name}] = slice
		}
	}
	for k, o := range is {
		if old := was[k]; old != nil && equality.Semantic.DeepEqual(unversioned(old), o) {
			is[k] = old
		} else {
			changes = append(changes, view.Change{Key: k, Object: o})
		}
	}
	for k := range was {
		if is[k] == nil {
			changes = append(changes, view.Change{Key: k})
		}
	}
	if len(is) == 0 {
		delete(d.services.derived, key)
	} else {
		d.services.derived[key] = is
	}
	return changes
}

// unversioned is an object as it was put into the view.
func unversioned(o view.Object) view.Object {
	o = o.DeepCopyObject().(view.Object)
	o.SetResourceVersion("")
	return o
}

// slicesOf are all of a service's.
func (d *Daemon) slicesOf(key manifests.Key) (list []*discovery.EndpointSlice) {
	for _, o := range d.services.derived[key] {
		if slice, is := o.(*discovery.EndpointSlice); is {
			list = append(list, slice)
		}
	}
	return slices.AppendSeq(list, maps.Values(d.services.declared[key]))
}

// wishFor is what this node's kernel is to do for a service.
func (d *Daemon) wishFor(key manifests.Key, s *v1.Service) (w service.Wish) {
	if s == nil {
		return w
	}
	own := d.services.addresses.Own(s, d.Config.Network.ServiceCIDRs, d.portRange())
	return service.Wish{Created: s.CreationTimestamp.Time, Rules: service.Rules(own, d.slicesOf(key), d.aboutServices())}
}

func (d *Daemon) portRange() workload.PortRange {
	r := d.Config.Network.NodePortRange
	return workload.PortRange{First: r.First, Last: r.Last}
}

// servicesSee is what services get addresses from.
func (d *Daemon) servicesSee() *workload.Services {
	return &workload.Services{
		CIDRs: d.Config.Network.ServiceCIDRs, NodePorts: d.portRange(), Addresses: &d.services.addresses,
		Given: func(s *v1.Service) view.ServiceStatus {
			key := serviceKey(s.Namespace, s.Name)
			given, err := view.Given(s.UID, d.said(record.Name{Section: record.Status, Key: key.String()}))
			if err != nil {
				d.Log.Warn("a status that can't be read does not count", "key", key.String(), "err", err)
			}
			return given
		},
	}
}

// aboutServices is what rules depend on besides the services.
func (d *Daemon) aboutServices() service.Node {
	n := service.Node{Name: d.Config.Node}
	if node := d.seenNode(n.Name); node != nil {
		n.Zone = node.Labels[v1.LabelTopologyZone]
	}
	if d.host == nil {
		return n // tests
	}
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	for _, ip := range d.host.ips {
		if a, err := netip.ParseAddr(ip); err == nil {
			n.NodePorts = append(n.NodePorts, a)
		}
	}
	return n
}

// serves says whether a service leads to a pod. It is safe for concurrent use.
func (d *Daemon) serves(p *v1.Pod) bool {
	list, _ := d.view.List(workload.KindService, p.Namespace)
	return slices.ContainsFunc(list, func(o view.Object) bool {
		s, is := o.(*v1.Service)
		return is && endpoints.Has(s, p)
	})
}
