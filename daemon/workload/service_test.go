package workload

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// registry is a cluster that has services alone: what is declared, and what was
// given.
type registry struct {
	cidrs    []netip.Prefix
	ports    PortRange
	declared map[manifests.Key]*v1.Service
	given    map[types.UID]view.ServiceStatus
	index    Addresses
	shown    map[manifests.Key]*v1.Service // as the index knows them
	events   []string
	looks    int
}

func newRegistry(cidrs ...string) *registry {
	r := &registry{
		ports: PortRange{30000, 32767}, declared: make(map[manifests.Key]*v1.Service),
		given: make(map[types.UID]view.ServiceStatus), shown: make(map[manifests.Key]*v1.Service),
	}
	for _, c := range cidrs {
		r.cidrs = append(r.cidrs, netip.MustParsePrefix(c))
	}
	return r
}

func svcKey(name string) manifests.Key {
	return manifests.Key{Kind: "Service", Namespace: "default", Name: name}
}

// put declares a service, born so many seconds after others.
func (r *registry) put(name string, born int, change func(*v1.ServiceSpec)) {
	s := &v1.Service{}
	s.Name, s.Namespace, s.UID = name, "default", types.UID(fmt.Sprint(name, born))
	s.CreationTimestamp = metav1.NewTime(now.Add(time.Duration(born) * time.Second))
	s.Spec.Type = v1.ServiceTypeClusterIP
	s.Spec.Ports = []v1.ServicePort{{Port: 80, Protocol: v1.ProtocolTCP}}
	if change != nil {
		change(&s.Spec)
	}
	if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	r.declared[svcKey(name)] = s
	r.settle(svcKey(name))
}

func (r *registry) drop(name string) {
	delete(r.declared, svcKey(name))
	r.settle(svcKey(name))
}

// settle has controllers look until all are at rest.
func (r *registry) settle(keys ...manifests.Key) {
	for dirty := keys; len(dirty) > 0; dirty = dirty[1:] {
		if r.looks++; r.looks > 10000 {
			panic("they don't come to rest")
		}
		key := dirty[0]
		var old, is view.Object
		if was := r.shown[key]; was != nil {
			old = was
		}
		delete(r.shown, key)
		if d := r.declared[key]; d != nil {
			s := d.DeepCopy()
			given := r.given[s.UID]
			given.Fill(s)
			is, r.shown[key] = s, s
		}
		dirty = append(dirty, r.index.Notice(key, old, is)...)
		if is == nil {
			continue
		}
		out := Reconcile(key, Cluster{Objects: view.New(now), Now: now, Services: &Services{
			CIDRs: r.cidrs, NodePorts: r.ports, Addresses: &r.index,
			Given: func(s *v1.Service) view.ServiceStatus { return r.given[s.UID] },
		}}.with(is))
		for _, e := range out.Events {
			r.events = append(r.events, e.About.GetName()+" "+e.Reason+": "+e.Message)
		}
		for _, c := range out.Changes {
			r.given[is.GetUID()] = *c.Given
			dirty = append(dirty, key)
		}
	}
}

// with is the cluster with an object.
func (c Cluster) with(o view.Object) Cluster {
	objects := view.New(now)
	key, _ := manifests.KeyOf(o)
	objects.Apply(view.Change{Key: key, Object: o})
	c.Objects = objects
	return c
}

func (r *registry) ips(name string) string {
	return strings.Join(r.index.Own(r.shown[svcKey(name)], r.cidrs, r.ports).Spec.ClusterIPs, " ")
}

func TestServicesKeepTheAddressesThatFollowFromTheirNames(t *testing.T) {
	r := newRegistry("10.96.0.0/16")
	r.put("web", 0, nil)
	first := r.ips("web")
	if a, err := netip.ParseAddr(first); err != nil || !r.cidrs[0].Contains(a) {
		t.Fatalf("web has %q", first)
	}
	// Somebody older asks for it: whoever it was given to gets another one.
	r.put("older", -1, func(s *v1.ServiceSpec) { s.ClusterIP = first })
	second := r.ips("web")
	if r.ips("older") != first || second == first || second == "" {
		t.Errorf("older has %s, web %s, before %s", r.ips("older"), second, first)
	}
	r.drop("older")
	if got := r.ips("web"); got != second {
		t.Errorf("the older one is gone: web has %s, had %s", got, second)
	}
	// Made anew, it has what follows from its name again.
	r.drop("web")
	r.put("web", 5, nil)
	if got := r.ips("web"); got != first {
		t.Errorf("made anew, web has %s, had %s", got, first)
	}
	if len(r.events) > 0 {
		t.Error(r.events)
	}
}

func TestWhatAServiceCantHaveItSays(t *testing.T) {
	lb, np := v1.ServiceTypeLoadBalancer, v1.ServiceTypeNodePort
	port := func(n int32) func(*v1.ServiceSpec) {
		return func(s *v1.ServiceSpec) { s.Type, s.Ports[0].NodePort = np, n }
	}
	for _, c := range []struct {
		name   string
		change func(*v1.ServiceSpec)
		ips    int
		ports  bool
		event  string
	}{
		{"one", nil, 1, false, ""},
		{"headless", func(s *v1.ServiceSpec) { s.ClusterIP = "None" }, 0, false, ""},
		{"its own", func(s *v1.ServiceSpec) { s.ClusterIP = "10.96.0.10" }, 1, false, ""},
		{"another's", func(s *v1.ServiceSpec) { s.ClusterIP = "10.96.0.9" }, 0, false, `ClusterIPAlreadyAllocated: spec.clusterIPs[0]: Invalid value: "10.96.0.9": provided IP is already allocated: service default/first, which is older, has it`},
		{"far away", func(s *v1.ServiceSpec) { s.ClusterIP = "8.8.8.8" }, 0, false, `ClusterIPOutOfRange: spec.clusterIPs[0]: Invalid value: "8.8.8.8": the provided IP is not in the range 10.96.0.0/16 of this cluster`},
		{"six", func(s *v1.ServiceSpec) { s.IPFamilies = []v1.IPFamily{v1.IPv6Protocol} }, 0, false, `InvalidIPFamily: spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster`},
		{"both", func(s *v1.ServiceSpec) { s.IPFamilyPolicy = ptr.To(v1.IPFamilyPolicyRequireDualStack) }, 1, false, `InvalidIPFamily: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services`},
		{"both if", func(s *v1.ServiceSpec) { s.IPFamilyPolicy = ptr.To(v1.IPFamilyPolicyPreferDualStack) }, 1, false, ""},
		{"node port", func(s *v1.ServiceSpec) { s.Type = np }, 1, true, ""},
		{"balancer", func(s *v1.ServiceSpec) { s.Type = lb }, 1, true, ""},
		{"balancer without", func(s *v1.ServiceSpec) { s.Type, s.AllocateLoadBalancerNodePorts = lb, ptr.To(false) }, 1, false, ""},
		{"its own port", port(30001), 1, true, ""},
		{"another's port", port(30080), 1, false, `PortAlreadyAllocated: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated: service default/first, which is older, has it`},
		{"low port", port(80), 1, false, `PortOutOfRange: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767`},
		{"elsewhere", func(s *v1.ServiceSpec) { s.Type, s.ExternalName = v1.ServiceTypeExternalName, "example.org" }, 0, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry("10.96.0.0/16")
			r.put("first", -1, func(s *v1.ServiceSpec) { s.Type, s.ClusterIP, s.Ports[0].NodePort = np, "10.96.0.9", 30080 })
			r.put("x", 0, c.change)
			own := r.index.Own(r.shown[svcKey("x")], r.cidrs, r.ports)
			if ips := own.Spec.ClusterIPs; len(ips) != c.ips && !(len(ips) == 1 && ips[0] == "None") {
				t.Errorf("it has %v, want %d", ips, c.ips)
			}
			if port := own.Spec.Ports[0].NodePort; port != 0 != c.ports {
				t.Errorf("node port %d, want one: %v", port, c.ports)
			}
			all := strings.Join(r.events, "\n")
			if want := strings.TrimSpace("x " + c.event); c.event == "" && all != "" || !strings.HasPrefix(all+" ", want) && c.event != "" {
				t.Errorf("said %q, want %q", all, c.event)
			}
			conditions := r.shown[svcKey("x")].Status.Conditions
			if (c.event != "") != (len(conditions) == 1 && conditions[0].Type == ConditionAllocated && conditions[0].Status == metav1.ConditionFalse) {
				t.Errorf("conditions %v", conditions)
			}
			// What stood in its way goes.
			if strings.Contains(c.event, "already allocated") {
				r.drop("first")
				if conditions := r.shown[svcKey("x")].Status.Conditions; len(conditions) > 0 {
					t.Errorf("free now, and still %v", conditions)
				}
			}
		})
	}
}

func TestBothFamilies(t *testing.T) {
	r := newRegistry("10.96.0.0/16", "fd00:10:96::/112")
	r.put("two", 0, func(s *v1.ServiceSpec) { s.IPFamilyPolicy = ptr.To(v1.IPFamilyPolicyRequireDualStack) })
	r.put("six", 0, func(s *v1.ServiceSpec) {
		s.IPFamilyPolicy, s.IPFamilies = ptr.To(v1.IPFamilyPolicyPreferDualStack), []v1.IPFamily{v1.IPv6Protocol}
	})
	r.put("one", 0, nil)
	for name, want := range map[string]string{"two": "IPv4 IPv6", "six": "IPv6 IPv4", "one": "IPv4"} {
		var got []string
		for _, ip := range strings.Fields(r.ips(name)) {
			got = append(got, string(familyOf(netip.MustParseAddr(ip))))
		}
		if text := strings.Join(got, " "); text != want || fmt.Sprint(r.shown[svcKey(name)].Spec.IPFamilies) != "["+want+"]" {
			t.Errorf("%s has %s, want %s", name, r.ips(name), want)
		}
	}
}

// TestNoTwoServicesOwnAnAddress: whatever people declare in whatever order, and
// although the range is small.
func TestNoTwoServicesOwnAnAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRegistry("10.96.0.0/28")
		r.ports = PortRange{30000, 30007}
		names := []string{"a", "b", "c", "d", "e", "f"}
		had := make(map[string]string)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
				r.drop(name)
				delete(had, name)
			} else {
				ip := rapid.SampledFrom([]string{"", "", "", "10.96.0.1", "10.96.0.2", "10.96.0.14"}).Draw(t, "ip")
				port := rapid.SampledFrom([]int32{0, 0, 30001, 30002}).Draw(t, "port")
				r.put(name, rapid.IntRange(0, 3).Draw(t, "born"), func(s *v1.ServiceSpec) {
					s.Type, s.ClusterIP, s.Ports[0].NodePort = v1.ServiceTypeNodePort, ip, port
				})
			}
			ips, ports := make(map[string]string), make(map[int32]string)
			for key, s := range r.shown {
				own := r.index.Own(s, r.cidrs, r.ports)
				if ip := own.Spec.ClusterIP; ip != "" && ips[ip] != "" {
					t.Fatalf("%s and %s have %s", ips[ip], key.Name, ip)
				} else {
					ips[ip] = key.Name
				}
				if port := own.Spec.Ports[0].NodePort; port != 0 && ports[port] != "" {
					t.Fatalf("%s and %s have %d", ports[port], key.Name, port)
				} else {
					ports[port] = key.Name
				}
				declared := r.declared[key].Spec.ClusterIP
				if own.Spec.ClusterIP == "" && declared == "" {
					t.Fatalf("%s has no address", key.Name)
				}
			}
		}
	})
}

func TestAFullRangeIsSaid(t *testing.T) {
	r := newRegistry("10.96.0.0/29")
	for i := range 7 {
		r.put(fmt.Sprint("s", i), i, nil)
	}
	if len(r.events) != 1 || !strings.Contains(r.events[0], "s6 AllocationFailed: failed to allocate IP: the range 10.96.0.0/29 is full") {
		t.Errorf("%d services, said: %q", len(r.shown), r.events)
	}
}
