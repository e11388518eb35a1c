package daemon

import (
	"reflect"
	"testing"

	"github.com/shoal-project/shoal/daemon/config"
)

func TestAReloadTellsWhatItCanApplyFromWhatNeedsARestart(t *testing.T) {
	for _, c := range []struct {
		about, before, after string
		now, later           []string
	}{
		{"nothing", `node = "a"`, `node = "a"`, nil, nil},
		{"an empty table is none", "", "[labels]\n[registries]", nil, nil},
		{"labels", "[labels]\nrack = '1'", "[labels]\nrack = '2'", []string{"labels"}, nil},
		{"stub domains", "", "[dns.stub_domains]\n'corp.example' = ['192.0.2.1']", []string{"dns.stub_domains"}, nil},
		{"upstreams", "", "[dns]\nupstreams = ['192.0.2.1']", []string{"dns.upstreams"}, nil},
		{"what pods hold on to", "", "[network]\nmtu = 1400\npod_cidrs = ['10.244.9.0/24']", nil,
			[]string{"network.pod_cidrs", "network.mtu"}},
		{"both, and a size is named once", "", "[labels]\na = 'b'\n[logs]\nmax_size = '1Mi'\n[registries.'docker.io']\nplain_http = true",
			[]string{"labels"}, []string{"registries", "logs.max_size"}},
	} {
		now, later := reloadable(changedKeys(parse(t, c.before), parse(t, c.after)))
		if !reflect.DeepEqual(now, c.now) || !reflect.DeepEqual(later, c.later) {
			t.Errorf("%s: got %q now and %q later, want %q and %q", c.about, now, later, c.now, c.later)
		}
	}
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("shoal.toml", []byte(text), "host")
	if err != nil {
		t.Fatal(err)
	}
	return c
}
