package placement

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper"
)

// resources are amounts of what nodes have and pods ask for: processors in
// thousandths, all else in its own unit.
type resources struct {
	cpu, memory, storage int64
	pods                 int64
	others               map[v1.ResourceName]int64 // huge pages and extended resources
}

// scored are the amounts that scores look at.
type scored struct{ cpu, memory int64 }

func (s *scored) add(o scored, times int64) {
	s.cpu += times * o.cpu
	s.memory += times * o.memory
}

func amounts(list v1.ResourceList) resources {
	var r resources
	for name, q := range list {
		switch {
		case name == v1.ResourceCPU:
			r.cpu = q.MilliValue()
		case name == v1.ResourceMemory:
			r.memory = q.Value()
		case name == v1.ResourceEphemeralStorage:
			r.storage = q.Value()
		case name == v1.ResourcePods:
			r.pods = q.Value()
		case scalar(name):
			if r.others == nil {
				r.others = make(map[v1.ResourceName]int64)
			}
			r.others[name] = q.Value()
		}
	}
	return r
}

// scalar says whether a resource is one that is only counted (the scheduler's
// IsScalarResourceName).
func scalar(name v1.ResourceName) bool {
	return helper.IsExtendedResourceName(name) || helper.IsHugePageResourceName(name) ||
		helper.IsPrefixedNativeResource(name) || helper.IsAttachableVolumeResourceName(name)
}

func (r *resources) add(o *resources, times int64) {
	r.cpu += times * o.cpu
	r.memory += times * o.memory
	r.storage += times * o.storage
	for name, n := range o.others {
		if r.others == nil {
			r.others = make(map[v1.ResourceName]int64)
		}
		r.others[name] += times * n
	}
}

func (r resources) clone() resources {
	r.others = maps.Clone(r.others)
	return r
}

// requests is what a pod takes up: while a resize is under way, the larger of
// what it has and what it asks for (KEP-1287).
func requests(p *v1.Pod) resources {
	return amounts(resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{UseStatusResources: true}))
}

// leastRequests is what a container without requests counts for in scores (the
// scheduler's DefaultMilliCPURequest and DefaultMemoryRequest): else all pods
// without any would pile up on one node.
var leastRequests = v1.ResourceList{
	v1.ResourceCPU:    *resource.NewMilliQuantity(100, resource.DecimalSI),
	v1.ResourceMemory: *resource.NewQuantity(200*1024*1024, resource.DecimalSI),
}

func nonZeroRequests(p *v1.Pod) scored {
	list := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{UseStatusResources: true, NonMissingContainerRequests: leastRequests})
	return scored{list.Cpu().MilliValue(), list.Memory().Value()}
}

// Shortage is a resource of which a node has too little left.
type Shortage struct {
	Resource                  v1.ResourceName
	Requested, Used, Capacity int64 // processors in thousandths
}

// shortages are the resources that a node lacks for a pod. Of what it does not
// ask for, a pod lacks nothing, whatever others took.
func (n *node) shortages(r *resources) (list []Shortage) {
	if have := int64(len(n.pods)); have+1 > n.allocatable.pods {
		list = append(list, Shortage{v1.ResourcePods, 1, have, n.allocatable.pods})
	}
	check := func(name v1.ResourceName, asked, used, capacity int64) {
		if asked > 0 && asked > capacity-used {
			list = append(list, Shortage{name, asked, used, capacity})
		}
	}
	check(v1.ResourceCPU, r.cpu, n.requested.cpu, n.allocatable.cpu)
	check(v1.ResourceMemory, r.memory, n.requested.memory, n.allocatable.memory)
	check(v1.ResourceEphemeralStorage, r.storage, n.requested.storage, n.allocatable.storage)
	if len(r.others) > 0 {
		for _, name := range slices.Sorted(maps.Keys(r.others)) {
			check(name, r.others[name], n.requested.others[name], n.allocatable.others[name])
		}
	}
	return list
}

// reason is the shortage as the scheduler says it.
func (s Shortage) reason() string {
	if s.Resource == v1.ResourcePods {
		return "Too many pods"
	}
	return "Insufficient " + string(s.Resource)
}

// never says that the node lacks the resource even with nothing else on it.
func (s Shortage) never() bool { return s.Resource != v1.ResourcePods && s.Requested > s.Capacity }

// hostPort is a port of the node that a pod takes.
type hostPort struct {
	ip       string // "0.0.0.0" is every address
	protocol v1.Protocol
	port     int32
}

const anyAddress = "0.0.0.0"

// hostPorts are those of the main containers and of sidecars.
func hostPorts(p *v1.Pod) (ports []hostPort) {
	add := func(c *v1.Container) {
		for _, port := range c.Ports {
			if port.HostPort <= 0 {
				continue
			}
			h := hostPort{port.HostIP, port.Protocol, port.HostPort}
			if h.ip == "" {
				h.ip = anyAddress
			}
			if h.protocol == "" {
				h.protocol = v1.ProtocolTCP
			}
			ports = append(ports, h)
		}
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	for i := range p.Spec.Containers {
		add(&p.Spec.Containers[i])
	}
	return ports
}

// conflicts says whether two pods can't have both ports on one node.
func (h hostPort) conflicts(o hostPort) bool {
	return h.port == o.port && h.protocol == o.protocol && (h.ip == o.ip || h.ip == anyAddress || o.ip == anyAddress)
}

// portsFree says whether nobody on the node has one of these ports.
func (n *node) portsFree(want []hostPort) bool {
	if len(want) == 0 {
		return true
	}
	for _, p := range n.pods {
		for _, have := range p.ports {
			if slices.ContainsFunc(want, have.conflicts) {
				return false
			}
		}
	}
	return true
}
