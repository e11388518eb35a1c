package dnsd

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestEachStepOfAWalkAndWhyItEnded(t *testing.T) {
	u := &upstream{do: worldly}
	s := startChanged(t, func(s *Server) { s.SetZone(Build(searchCluster())) }, up1)
	u.start(t, up1)
	r := Resolv{Searches: corpSearch, Options: []string{"ndots:5"}}
	for name, want := range map[string]string{
		"web": "web.default.svc.cluster.local. NOERROR zone [A 10.96.0.10] found",
		"dual.other": `dual.other.default.svc.cluster.local. NXDOMAIN zone [] no such name: on to the next
dual.other.svc.cluster.local. NOERROR zone [A 10.96.0.11 AAAA fd00:96::b] found`,
		"ext.default.svc.cluster.local.": "ext.default.svc.cluster.local. NOERROR zone [CNAME example.org. A 198.51.100.1 AAAA 2001:db8::1] found",
		"default": `default.default.svc.cluster.local. NXDOMAIN zone [] no such name: on to the next
default.svc.cluster.local. NOERROR zone [] the name is there, without addresses: musl ends here, glibc and Go go on
default.cluster.local. NXDOMAIN zone [] no such name: on to the next
default.corp.example. NXDOMAIN forward [] no such name: on to the next
default. NXDOMAIN forward [] no such name: on to the next`,
		"a.b.c.d.e.f":                 "a.b.c.d.e.f. NOERROR forward [A 198.51.100.12] found",
		"broken.example.org.":         "broken.example.org. SERVFAIL forward [] it can't be had: SERVFAIL; musl ends here, glibc and Go go on",
		strings.Repeat("a", 64) + ".": strings.Repeat("a", 64) + ".   [] not a name that DNS can carry: no resolver asks for it",
	} {
		var lines []string
		for _, step := range s.Lookup(t.Context(), netip.MustParseAddr("10.244.7.2"), r, name) {
			lines = append(lines, fmt.Sprintln(step.Name, step.Code, step.Source, step.Records, step.Why))
		}
		if got := strings.TrimSpace(strings.Join(lines, "")); got != want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", name, got, want)
		}
	}
	for options, first := range map[string]string{"ndots:1": "a.b.", "ndots:2": "a.b.default.svc.cluster.local.", "ndots:0": "a.b.", "ndots:99": "a.b.default.svc.cluster.local.", "rotate": "a.b."} {
		if got := walk(Resolv{Searches: corpSearch, Options: []string{options}}, "a.b")[0]; got != first {
			t.Errorf("%s: first %s, want %s", options, got, first)
		}
	}
}
