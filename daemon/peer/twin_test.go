package peer

import (
	"testing"
)

// TestATwinIsToldFromThisHostAndFromOthers: a copy of the disk has the key; this
// host itself, another host of that name, and a copy that is by itself are no
// proof.
func TestATwinIsToldFromThisHostAndFromOthers(t *testing.T) {
	company := func(is bool) func(*Config, *SetConfig) {
		return func(c *Config, _ *SetConfig) { c.Company = func() bool { return is } }
	}
	me := listens(t, "n1", company(true))
	copied := listens(t, "n1", company(true))
	alone := listens(t, "n1", company(false))
	named := stands(t, "n1", keyOf("another"), company(true))
	named.serveOn(t)
	other := listens(t, "n2", company(true))
	for _, c := range []struct {
		who  string
		at   *host
		twin bool
		fail bool
	}{
		{"this host itself", me, false, false},
		{"a copy of its disk", copied, true, false},
		{"a copy that is by itself", alone, false, false},
		{"another host of that name", named, false, true},
		{"another node", other, false, true},
	} {
		is, err := me.HasTwin(t.Context(), c.at.peer.Address)
		if is != c.twin || (err != nil) != c.fail {
			t.Errorf("%s: twin %v, %v; want %v, error %v", c.who, is, err, c.twin, c.fail)
		}
	}
}
