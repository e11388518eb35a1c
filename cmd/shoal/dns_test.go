package main

import (
	"testing"

	"github.com/shoal-project/shoal/daemon/api"
)

func TestALookupIsPrintedStepByStep(t *testing.T) {
	h := newHost(t)
	h.Shoal.Lookup = api.DNSLookup{
		Search: []string{"default.svc.cluster.local", "cluster.local"}, Options: []string{"ndots:5"}, Nameservers: []string{"10.244.7.1"}, Completed: true,
		Steps: []api.DNSStep{
			{Name: "example.org.default.svc.cluster.local.", Code: "NXDOMAIN", Source: "zone", Why: "no such name: on to the next"},
			{Name: "example.org.", Code: "NOERROR", Source: "forward", Records: []string{"CNAME a.example.org.", "A 192.0.2.1"}, Found: true, Why: "found"},
		},
	}
	out, code := try(t, h.shoal("dns", "lookup", "example.org", "--from", "pod/client", "-n", "shop"), "")
	if want := `It asks 10.244.7.1; search default.svc.cluster.local cluster.local; options ndots:5
The server answers the first question of a walk with what the walk comes to (annotation shoal.io/dns-search: client ends that).
NAME                                     ANSWER                              BY          WHY
example.org.default.svc.cluster.local.   NXDOMAIN                            cluster     no such name: on to the next
example.org.                             CNAME a.example.org., A 192.0.2.1   elsewhere   found
`; out != want || code != 0 {
		t.Errorf("got exit code %d and\n%s\nwant\n%s", code, out, want)
	}
	if q := h.Shoal.LookedUp; q != (api.DNSRequest{Name: "example.org", Namespace: "shop", Pod: "client"}) {
		t.Errorf("asked for %+v", q)
	}
	h.Shoal.Lookup.Steps = h.Shoal.Lookup.Steps[:1]
	if _, code := try(t, h.shoal("dns", "lookup", "x", "-o", "json"), ""); code != exitNotFound {
		t.Errorf("got exit code %d for a name that was not found", code)
	}
}
