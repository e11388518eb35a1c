package podnet

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/proxy/nettest"
)

func TestAPodGoesOnWhenItsHostHasAnotherRange(t *testing.T) {
	h := newHost(t, nil)
	old, oldIP := h.attach(t, "old")
	nettest.Serve(t, old, "old", 80)
	nettest.Serve(t, h.outside, "outside", 80)
	next := []netip.Prefix{netip.MustParsePrefix("10.244.9.0/24"), netip.MustParsePrefix("fd00:9::/64")}
	formerGateways := h.Gateway()
	if err := h.Move(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	want(t, "misplaced", strings.Join(h.Misplaced(), " "), pod("old").UID)
	young, youngIP := h.attach(t, "young")
	nettest.Serve(t, young, "young", 80)
	again := func(when string) {
		for i := range 2 {
			want(t, when+": new to old", nettest.Ask(t, young, "tcp", hostPort(oldIP[i], 80)), "old "+youngIP[i].String())
			want(t, when+": old to new", nettest.Ask(t, old, "tcp", hostPort(youngIP[i], 80)), "young "+oldIP[i].String())
			want(t, when+": host to old", strings.Fields(nettest.Ask(t, "", "tcp", hostPort(oldIP[i], 80)))[0], "old")
		}
		want(t, when+": old to the world", nettest.Ask(t, old, "tcp", hostPort(outside, 80)), "outside "+hostIP.String())
		want(t, when+": old to the world, IPv6", nettest.Ask(t, old, "tcp", hostPort(outside6, 80)), "outside "+hostIP6.String())
	}
	again("after the move")
	nettest.Serve(t, "", "host", 81)
	want(t, "old to its gateway", nettest.Ask(t, old, "tcp", hostPort(formerGateways[0], 81)), "host "+oldIP[0].String())

	h.Close() // a daemon that comes back knows of it
	h.cfg.PodCIDRs = next
	h.open(t)
	want(t, "misplaced after a restart", strings.Join(h.Misplaced(), " "), pod("old").UID)
	again("after a restart")
	if err := h.Detach(t.Context(), pod("old").UID); err != nil {
		t.Fatal(err)
	}
	want(t, "ranges", fmt.Sprint(h.Ranges()), fmt.Sprint(next))
	if _, err := h.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "ip", "-o", "addr", "show", "dev", h.config().Bridge) + run(t, "ip", "route"); strings.Contains(got, "10.244.7.") {
		t.Errorf("of the former range is left: %s", got)
	}
}
