package bed

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestCutRulesDropBothDirectionsBetweenParts(t *testing.T) {
	const head = "table bridge bed\ndelete table bridge bed\n"
	for _, c := range []struct {
		name  string
		parts [][]string
		pairs []string // in the set; nil: no rule at all
	}{
		{"no cut, no rules", nil, nil},
		{"one host against the rest", [][]string{{"n1"}}, []string{
			`"vb-n1" . "vb-n2"`, `"vb-n1" . "vb-n3"`, `"vb-n2" . "vb-n1"`, `"vb-n3" . "vb-n1"`}},
		{"two that still talk", [][]string{{"n1", "n2"}}, []string{
			`"vb-n1" . "vb-n3"`, `"vb-n2" . "vb-n3"`, `"vb-n3" . "vb-n1"`, `"vb-n3" . "vb-n2"`}},
		{"a later cut separates further", [][]string{{"n1", "n2"}, {"n2"}}, []string{
			`"vb-n1" . "vb-n2"`, `"vb-n1" . "vb-n3"`, `"vb-n2" . "vb-n1"`, `"vb-n2" . "vb-n3"`,
			`"vb-n3" . "vb-n1"`, `"vb-n3" . "vb-n2"`}},
		{"everyone cut is nobody cut", [][]string{{"n1", "n2", "n3"}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := head
			if c.pairs != nil {
				want += "table bridge bed {\n\tset cut {\n\t\ttype ifname . ifname\n\t\telements = { " +
					strings.Join(c.pairs, ",\n\t\t\t") + " }\n\t}\n\tchain forward {\n" +
					"\t\ttype filter hook forward priority 0\n\t\tiifname . oifname @cut drop\n\t}\n}\n"
			}
			if got := cutRules([]string{"n3", "n1", "n2"}, c.parts); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestTroublesSurviveTheirTextAndDropOneWay(t *testing.T) {
	lossy, cut := Trouble{[]string{"n1", "n2"}, []string{"n3"}, 20}, Trouble{[]string{"n3"}, []string{"n1"}, 100}
	for text, want := range map[string]Trouble{"n1,n2>n3:20": lossy, "n3>n1:100": cut} {
		if got, err := parseTrouble(text); err != nil || got.String() != want.String() {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "n1", "n1>n2", "n1>n2:0", "n1>n2:101", "n1>n2:all"} {
		if got, err := parseTrouble(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
	const head = "table bridge trouble\ndelete table bridge trouble\n"
	if got := troubleRules(nil); got != head {
		t.Errorf("no trouble: %s", got)
	}
	want := head + "table bridge trouble {\n\tchain forward {\n\t\ttype filter hook forward priority 1\n" +
		"\t\tiifname { \"vb-n1\", \"vb-n2\" } oifname { \"vb-n3\" } numgen random mod 100 < 20 drop\n" +
		"\t\tiifname { \"vb-n3\" } oifname { \"vb-n1\" } drop\n\t}\n}\n"
	if got := troubleRules([]Trouble{lossy, cut}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAptSourceCountsOnlyWithTheSuiteItself(t *testing.T) {
	for text, want := range map[string]bool{
		"Types: deb\nURIs: http://x\nSuites: bookworm bookworm-updates\n": true,
		"Types: deb\nURIs: http://x\nSuites: bookworm-updates\n":          false,
		"deb http://x bookworm main\n":                                    true,
		"# deb http://x bookworm main\ndeb http://x trixie main\n":        false,
		"deb-src http://x bookworm main\n":                                false,
		"":                                                                false,
	} {
		if got := offersSuite(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func TestCgroupHierarchiesAreFound(t *testing.T) {
	for _, c := range []struct {
		name, mounts, own string
		at, path          cgroups
	}{
		{"v1 with an empty v2 beside it",
			"31 20 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n" +
				"40 31 0:36 / /sys/fs/cgroup/cpu rw,relatime shared:2 - cgroup cgroup rw,cpu\n" +
				"42 31 0:38 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n" +
				"43 31 0:39 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			"9:name=systemd:/a\n1:cpu:/\n0::/b/c\n",
			cgroups{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"}, cgroups{"/b/c", "/a"}},
		{"v2 alone",
			"30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
			"0::/system.slice/run-1.scope\n",
			cgroups{"/sys/fs/cgroup", ""}, cgroups{"/system.slice/run-1.scope", ""}},
		{"none", "1 0 0:1 / / rw - ext4 /dev/vda rw\n", "", cgroups{}, cgroups{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := cgroupMounts(c.mounts); got != c.at {
				t.Errorf("mounts: got %+v, want %+v", got, c.at)
			}
			if got := ownCgroups(c.own); got != c.path {
				t.Errorf("own: got %+v, want %+v", got, c.path)
			}
		})
	}
}

func TestNameServerKnowsHostsAndNothingElse(t *testing.T) {
	z := zone([]hostSpec{{Name: "n1", Addr: hostAddr(1)}})
	for _, c := range []struct {
		name  string
		kind  uint16
		rcode int
		want  string
	}{
		{"n1.bed.test.", dns.TypeA, dns.RcodeSuccess, "n1.bed.test.\t5\tIN\tA\t10.99.0.11"},
		{"N1.Bed.test.", dns.TypeA, dns.RcodeSuccess, "N1.Bed.test.\t5\tIN\tA\t10.99.0.11"},
		{"n1.bed.test.", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"n2.bed.test.", dns.TypeA, dns.RcodeNameError, ""},
		{"example.org.", dns.TypeA, dns.RcodeNameError, ""},
	} {
		m := reply(new(dns.Msg).SetQuestion(c.name, c.kind), z)
		got := ""
		for _, rr := range m.Answer {
			got += rr.String()
		}
		if m.Rcode != c.rcode || got != c.want {
			t.Errorf("%s %s: got %s %q", c.name, dns.TypeToString[c.kind], dns.RcodeToString[m.Rcode], got)
		}
	}
}

func TestPlanNumbersHostsAndTheirAddresses(t *testing.T) {
	s, err := plan(Config{Hosts: 200, Name: "b"})
	if err != nil {
		t.Fatal(err)
	}
	first, last := s.Hosts[0], s.Hosts[199]
	if first.Name != "n1" || first.Addr.String() != "10.99.0.11" || last.Name != "n200" || last.Addr.String() != "10.99.0.210" {
		t.Errorf("got %+v and %+v", first, last)
	}
	for _, bad := range []Config{{Hosts: 201}, {Name: "a/b"}, {Name: ".."}} {
		if _, err := plan(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestMirrorConfigNamesEachRegistryOnce(t *testing.T) {
	got := mirrorConfig([]string{"nginx", "debian"})
	want := `[registries."docker.io"]
mirrors = ["http://10.99.0.1:5000/docker.io"]
[registries."registry.k8s.io"]
mirrors = ["http://10.99.0.1:5000/registry.k8s.io"]
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestEveryImageHasItsOwnNames(t *testing.T) {
	owner := map[string]string{}
	for key, im := range catalogue() {
		for _, name := range im.names {
			if other, taken := owner[name]; taken {
				t.Errorf("%s is claimed by %s and %s", name, key, other)
			}
			owner[name] = key
		}
	}
}
