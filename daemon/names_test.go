package daemon

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/dnsd"
	"github.com/shoal-project/shoal/manifests"
)

func nameKey(group, kind, name string) manifests.Key {
	return manifests.Key{Group: group, Kind: kind, Namespace: "default", Name: name}
}

// aNamedSlice is endpoints of a service at addresses; those in braces are not ready.
func aNamedSlice(name, service string, ready bool, ips ...string) view.Change {
	s := &discovery.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discovery.LabelServiceName: service}},
		AddressType: discovery.AddressTypeIPv4, Ports: []discovery.EndpointPort{{Name: new("sql"), Port: new(int32(5432))}},
	}
	for i, ip := range ips {
		s.Endpoints = append(s.Endpoints, discovery.Endpoint{Addresses: []string{ip}, Hostname: new(fmt.Sprint("db-", i)), Conditions: discovery.EndpointConditions{Ready: &ready}})
	}
	return view.Change{Key: nameKey("discovery.k8s.io", "EndpointSlice", name), Object: s}
}

func aNamedService(name string, spec v1.ServiceSpec) view.Change {
	return view.Change{Key: nameKey("", "Service", name), Object: &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: spec}}
}

func aNamedPod(name string, phase v1.PodPhase, ips ...string) view.Change {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Status: v1.PodStatus{Phase: phase}}
	for _, ip := range ips {
		p.Status.PodIPs = append(p.Status.PodIPs, v1.PodIP{IP: ip})
	}
	return view.Change{Key: nameKey("", "Pod", name), Object: p}
}

// TestNamesFollowTheView makes changes one after the other. After each, names
// that followed and names that are made anew say the same, and both what the
// case wants.
func TestNamesFollowTheView(t *testing.T) {
	v := view.New(time.Unix(1000, 0))
	cluster := dnsd.Cluster{Domain: "cluster.local", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}
	nobody := func(*v1.Pod) []string { return nil }
	n := newNames(v, cluster, nobody)
	version := n.all()
	headless := v1.ServiceSpec{ClusterIP: v1.ClusterIPNone, ClusterIPs: []string{v1.ClusterIPNone}}
	gone := func(c view.Change) view.Change { return view.Change{Key: c.Key} }
	for _, step := range []struct {
		what    string
		changes []view.Change
		want    map[string]string // name to its addresses
	}{
		{"nothing", nil, map[string]string{"web.default.svc": "NXDOMAIN"}},
		{"a service that waits for its address", []view.Change{aNamedService("web", v1.ServiceSpec{Ports: []v1.ServicePort{{Name: "http", Port: 80}}})},
			map[string]string{"web.default.svc": "NXDOMAIN"}},
		{"has it", []view.Change{aNamedService("web", v1.ServiceSpec{ClusterIP: "10.96.0.9", ClusterIPs: []string{"10.96.0.9"}, Ports: []v1.ServicePort{{Name: "http", Port: 80}}})},
			map[string]string{"web.default.svc": "10.96.0.9", "_http._tcp.web.default.svc": "0 100 80 web.default.svc.cluster.local."}},
		{"a slice before its service", []view.Change{aNamedSlice("db-1", "db", true, "10.244.1.2")}, map[string]string{"db.default.svc": "NXDOMAIN"}},
		{"the service", []view.Change{aNamedService("db", headless)},
			map[string]string{"db.default.svc": "10.244.1.2", "db-0.db.default.svc": "10.244.1.2", "_sql._tcp.db.default.svc": "0 100 5432 db-0.db.default.svc.cluster.local."}},
		{"a second slice, not ready", []view.Change{aNamedSlice("db-2", "db", false, "10.244.1.3")}, map[string]string{"db.default.svc": "10.244.1.2"}},
		{"that becomes ready", []view.Change{aNamedSlice("db-2", "db", true, "10.244.1.3")}, map[string]string{"db.default.svc": "10.244.1.2 10.244.1.3"}},
		{"a slice that goes over to another service", []view.Change{aNamedSlice("db-2", "other", true, "10.244.1.3"), aNamedService("other", headless)},
			map[string]string{"db.default.svc": "10.244.1.2", "other.default.svc": "10.244.1.3"}},
		{"a slice less", []view.Change{gone(aNamedSlice("db-1", "db", true))}, map[string]string{"db.default.svc": "NXDOMAIN"}},
		{"publishes what is not ready", []view.Change{aNamedService("db", v1.ServiceSpec{ClusterIP: v1.ClusterIPNone, PublishNotReadyAddresses: true}), aNamedSlice("db-3", "db", false, "10.244.1.4")},
			map[string]string{"db.default.svc": "10.244.1.4"}},
		{"a service less", []view.Change{gone(aNamedService("other", headless))}, map[string]string{"other.default.svc": "NXDOMAIN"}},
		{"which comes back to its slice", []view.Change{aNamedService("other", headless)}, map[string]string{"other.default.svc": "10.244.1.3"}},
		{"another name", []view.Change{aNamedService("ext", v1.ServiceSpec{Type: v1.ServiceTypeExternalName, ExternalName: "web.default.svc.cluster.local"})},
			map[string]string{"ext.default.svc": "web.default.svc.cluster.local. 10.96.0.9"}},
		{"a pod", []view.Change{aNamedPod("p", v1.PodRunning, "10.244.1.9")}, map[string]string{"p.default.pod": "10.244.1.9"}},
		{"that ends", []view.Change{aNamedPod("p", v1.PodSucceeded, "10.244.1.9")}, map[string]string{"p.default.pod": "NXDOMAIN"}},
	} {
		v.Apply(step.changes...)
		version, _ = n.follow(version)
		anew := newNames(v, cluster, nobody)
		anew.all()
		if got, want := n.zone.String(), anew.zone.String(); got != want {
			t.Errorf("%s: followed:\n%s\nanew:\n%s", step.what, got, want)
		}
		for name, want := range step.want {
			if got := lookedUp(n.zone, name+".cluster.local."); got != want {
				t.Errorf("%s: %s: got %q, want %q", step.what, name, got, want)
			}
		}
	}
	for i := range 2000 { // more than the view remembers
		v.Apply(aNamedPod("q", v1.PodRunning, fmt.Sprintf("10.244.2.%d", i%250)))
	}
	v.Apply(gone(aNamedService("web", v1.ServiceSpec{})), gone(aNamedSlice("db-3", "", false)))
	n.follow(version)
	anew := newNames(v, cluster, nobody)
	anew.all()
	if got, want := n.zone.String(), anew.zone.String(); got != want {
		t.Errorf("far behind: followed:\n%s\nanew:\n%s", got, want)
	}
}

// lookedUp is what a name has, SRV records for one that begins with "_".
func lookedUp(z *dnsd.Zone, name string) string {
	q := dns.Question{Name: name, Qtype: dns.TypeA, Qclass: dns.ClassINET}
	if name[0] == '_' {
		q.Qtype = dns.TypeSRV
	}
	m, ok := z.Answer(q)
	if !ok || m.Rcode != dns.RcodeSuccess {
		return dns.RcodeToString[m.Rcode]
	}
	var words []string
	for _, rr := range m.Answer {
		words = append(words, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(words, " ")
}

// BenchmarkNames is the time from a slice in the view to its name, with 10 and
// with 10,000 headless services of 10 endpoints each, and what all of them take
// to begin with.
func BenchmarkNames(b *testing.B) {
	for _, count := range []int{10, 10_000} {
		v := view.New(time.Unix(1000, 0))
		slice := func(i, shift int) view.Change {
			var ips []string
			for e := range 10 {
				k := i*10 + e + shift
				ips = append(ips, fmt.Sprintf("10.%d.%d.%d", 1+k>>16, k>>8&255, k&255))
			}
			return aNamedSlice(fmt.Sprint("s-", i), fmt.Sprint("s-", i), true, ips...)
		}
		for i := range count {
			v.Apply(slice(i, 0), aNamedService(fmt.Sprint("s-", i), v1.ServiceSpec{ClusterIP: v1.ClusterIPNone}))
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		n := newNames(v, dnsd.Cluster{Domain: "cluster.local"}, func(*v1.Pod) []string { return nil })
		began := time.Now()
		version := n.all()
		took := time.Since(began)
		began = time.Now()
		n.all()
		again := time.Since(began)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				v.Apply(slice(7, i%2))
				version, _ = n.follow(version)
			}
			b.ReportMetric(float64(took.Milliseconds()), "ms-all")
			b.ReportMetric(float64(again.Milliseconds()), "ms-again")
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
		})
		runtime.KeepAlive(n)
	}
}
