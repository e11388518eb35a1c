package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestNoFileAtAllIsAWorkingConfiguration(t *testing.T) {
	c, err := Read("/nonexistent/shoal.toml", false)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(c.Domain, c.Network.ClusterCIDRs, c.Network.PodCIDRs, c.Network.Bridge, c.Runtime.OCI, c.Logs.MaxBytes, c.Logs.MaxFiles)
	if want := "cluster.local [10.244.0.0/16] [] shoal0 crun 10485760 5\n"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if _, err := Read("/nonexistent/shoal.toml", true); err == nil {
		t.Error("a file that was named and is missing is no error")
	}
}

func TestErrorsNameLineKeyAndCure(t *testing.T) {
	for _, test := range []struct{ file, want string }{
		{"node = \"n1\"\n[network]\npod_cidr = [\"10.0.0.0/24\"]\n", `f:3: unknown key "network.pod_cidr" (did you mean "pod_cidrs"?)`},
		{"[netwrk]\nmtu = 1400\n", `f:1: unknown key "netwrk"`},
		{"[scheduler]\nscoring = \"MostAlocated\"\n", `f: scheduler.scoring = "MostAlocated": want "LeastAllocated", which spreads pods, or "MostAllocated", which packs them`},
		{"node = \n", "f:1: expected value but found '\\n' instead"},
		{"node = 3\n", "f:1: node: incompatible types"},
		{"node = \"Host_1\"\n", `f: node = "Host_1": a lowercase RFC 1123 subdomain must consist of`},
		{"[logs]\nmax_size = \"big\"\n", `f: logs.max_size = "big": want a quantity of at least "1Ki"`},
		{"[runtime]\noci = \"docker\"\n", `f: runtime.oci = "docker": want "crun", "runc" or an absolute path`},
		{"[registries.\"docker.io\"]\nmirrors = [\"mirror:5000\"]\n", `f: registries."docker.io".mirrors = "mirror:5000": want "https://HOST`},
		{"[dns]\nupstreams = [\"dns.example\"]\n", `f: dns.upstreams = "dns.example": want "ADDRESS"`},
		{"[dns.stub_domains]\n\"corp.example\" = [\"ns.corp.example\"]\n", `f: dns.stub_domains."corp.example" = "ns.corp.example": want "ADDRESS"`},
		{"[dns.stub_domains]\n\"corp.example\" = []\n", `f: dns.stub_domains."corp.example" = "[]": want at least one server`},
		{"[dns.stub_domains]\n\"a.cluster.local\" = [\"192.0.2.1\"]\n", `f: dns.stub_domains."a.cluster.local" = "a.cluster.local": names below cluster.local are the cluster's own`},
		{"[dns.stub_domains]\n\"*.example\" = [\"192.0.2.1\"]\n", `f: dns.stub_domains."*.example" = "*.example": want a domain: `},
		{"[security]\nallowed_unsafe_sysctls = [\"vm.swappiness\"]\n", `f: security.allowed_unsafe_sysctls = "vm.swappiness": pods have no namespace of their own for it`},
		{"[security]\nallowed_unsafe_sysctls = [\"net.*.x\"]\n", `f: security.allowed_unsafe_sysctls = "net.*.x": want a sysctl's name`},
		{"[metrics]\nlisten = \":9479\"\n", `f: metrics.listen = ":9479": want "ADDRESS:PORT", for example`},
		{"[metrics]\nlisten = \"localhost:9479\"\n", `f: metrics.listen = "localhost:9479": want "ADDRESS:PORT"`},
		{"[metrics]\nlisten = \"0.0.0.0:9479\"\n", `f: metrics.listen = "0.0.0.0:9479": only loopback is allowed`},
		{"[metrics]\nlisten = \"[::]:9479\"\n", `f: metrics.listen = "[::]:9479": only loopback is allowed`},
		{"[metrics]\nlisten = \"192.0.2.1:9479\"\n", `f: metrics.listen = "192.0.2.1:9479": only loopback is allowed, as nobody has to prove who they are: want "127.0.0.1:9479"`},
		{"[userns]\nids_per_pod = 1000\n", `f: userns.ids_per_pod = "1000": want a multiple of 65536, below 4294967296`},
		{"join = [\"http://web2\"]\n", `f: join = "http://web2": want a host or an address of another host`},
		{"join = [\"web2:0\"]\n", `f: join = "web2:0": want a host`},
		{"[cluster]\nkey_file = \"cluster.key\"\n", `f: cluster.key_file = "cluster.key": want an absolute path`},
		{"[cluster]\nbind = \"192.0.2.1:7946\"\n", `f: cluster.bind = "192.0.2.1:7946": want an address of this host, without a port`},
		{"[cluster]\nadvertise = \"0.0.0.0\"\n", `f: cluster.advertise = "0.0.0.0": want the address, without a port,`},
		{"[cluster]\ngossip_port = 7947\n", `f: cluster.peer_port = "7947": want another port than gossip_port`},
		{"[cluster]\npeer_port = 70000\n", `f: cluster.peer_port = "70000": want 1 to 65535`},
		{"[runtime]\nmax_pods = -1\n", `f: runtime.max_pods = "-1": want a positive number`},
		{"[security]\nservice_account_issuer = \"web1\"\n", `f: security.service_account_issuer = "web1": want "https://HOST[/PATH]"`},
		{"[network]\npod_cidrs = [\"10.0.0.0\"]\n", `f:2: `},
		{"[shutdown]\ngrace_period = \"5s\"\ncritical_grace_period = \"6s\"\n", `f: shutdown.critical_grace_period = "6s": it is a part of grace_period, which is 5s`},
		{"[shutdown]\ngrace_period = \"10ms\"\n", `f: shutdown.grace_period = "10ms": want a duration of a second or more such as "30s", or "0s"`},
		{"[shutdown]\ngrace_period = \"5s\"\nby_priority = {\"0\" = \"5s\"}\n", `f: shutdown.by_priority = "map[0:5s]": want this or grace_period, not both`},
		{"[shutdown]\nby_priority = {high = \"5s\"}\n", `f: shutdown.by_priority = "high": want a priority from -2147483648 to 2147483647`},
		{"[shutdown]\nby_priority = {\"05\" = \"5s\"}\n", `f: shutdown.by_priority = "05": want a priority`},
		{"[shutdown]\nby_priority = {\"0\" = \"-5s\"}\n", `f: shutdown.by_priority."0" = "-5s": want a duration`},
	} {
		_, err := Parse("f", []byte(test.file), "host")
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%q:\ngot  %v\nwant %s...", test.file, err, test.want)
		}
	}
}

func TestAllErrorsOfAFileAreReportedAtOnce(t *testing.T) {
	_, err := Parse("f", []byte("nod = 1\nclustr = 2\n[logs]\nmax_files = 1\n"), "host")
	if got := strings.Count(err.Error(), "\n") + 1; got != 3 {
		t.Errorf("got %d errors: %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("node = \"n1\"\n[registries.\"docker.io\"]\nmirrors = [\"http://h:5000/x\"]\n")
	f.Add("[[network]]\n\"\" = 1\n'a.b'.c = 2")
	f.Fuzz(func(t *testing.T, data string) {
		c, err := Parse("f", []byte(data), "host")
		if (c == nil) == (err == nil) {
			t.Errorf("got %v and %v", c, err)
		}
	})
}
