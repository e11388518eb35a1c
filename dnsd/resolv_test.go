package dnsd

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
)

// Each case is a host: its files, and what Upstreams makes of them.
func TestUpstreamsOfAHost(t *testing.T) {
	paths, err := filepath.Glob("testdata/upstreams/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("no cases", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string][]byte{}
			for _, f := range ar.Files {
				files[f.Name] = f.Data
			}
			servers, search, err := Upstreams(func(name string) ([]byte, error) {
				if b, ok := files[name]; ok {
					return b, nil
				}
				return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
			})
			var got strings.Builder
			for _, s := range servers {
				fmt.Fprintln(&got, "ask", s)
			}
			fmt.Fprintln(&got, "search", search)
			if err != nil {
				fmt.Fprintln(&got, "error:", err)
			}
			golden(t, path, ar, "upstreams", got.String())
		})
	}
}

func golden(t *testing.T, path string, ar *txtar.Archive, name, got string) {
	t.Helper()
	for i, f := range ar.Files {
		if f.Name != name {
			continue
		}
		if !*update {
			want(t, name, got, string(f.Data))
			return
		}
		ar.Files[i].Data = []byte(got)
		if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("%s has no part %q", path, name)
}

func TestResolvConfOfAPod(t *testing.T) {
	one, empty := "1", ""
	host := Resolv{
		Nameservers: []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fe80::1%eth0")},
		Searches:    []string{"example.org", "svc.cluster.local"},
		Options:     []string{"timeout:1", "rotate"},
	}
	extra := &corev1.PodDNSConfig{
		Nameservers: []string{"192.0.2.1", "10.0.0.1"},
		Searches:    []string{"corp.example", "example.org"},
		Options:     []corev1.PodDNSConfigOption{{Name: "ndots", Value: &one}, {Name: "edns0"}, {Name: "rotate", Value: &empty}},
	}
	dnsd := []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	const cluster = "search ns1.svc.cluster.local svc.cluster.local cluster.local example.org\nnameserver 10.0.0.1\noptions ndots:5\n"
	for name, c := range map[string]struct {
		pod     PodDNS
		servers []netip.Addr
		want    string
	}{
		"ClusterFirst": {PodDNS{Policy: corev1.DNSClusterFirst}, dnsd, cluster},
		"empty policy": {PodDNS{}, dnsd, cluster},
		"ClusterFirst in the host's network is Default": {PodDNS{Policy: corev1.DNSClusterFirst, HostNetwork: true}, dnsd,
			"search example.org svc.cluster.local\nnameserver 192.0.2.53\nnameserver 127.0.0.1\nnameserver fe80::1%eth0\noptions timeout:1 rotate\n"},
		"ClusterFirstWithHostNet": {PodDNS{Policy: corev1.DNSClusterFirstWithHostNet, HostNetwork: true}, dnsd, cluster},
		"Default reaches a loopback server through dnsd": {PodDNS{Policy: corev1.DNSDefault}, dnsd,
			"search example.org svc.cluster.local\nnameserver 192.0.2.53\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\noptions timeout:1 rotate\n"},
		"None is empty": {PodDNS{Policy: corev1.DNSNone}, dnsd, ""},
		"None with dnsConfig": {PodDNS{Policy: corev1.DNSNone, Config: extra}, dnsd,
			"search corp.example example.org\nnameserver 192.0.2.1\nnameserver 10.0.0.1\noptions ndots:1 edns0 rotate\n"},
		"ClusterFirst with dnsConfig": {PodDNS{Config: extra}, dnsd,
			"search ns1.svc.cluster.local svc.cluster.local cluster.local example.org corp.example\nnameserver 10.0.0.1\nnameserver 192.0.2.1\noptions ndots:1 edns0 rotate\n"},
		"no cluster DNS falls back to Default": {PodDNS{Policy: corev1.DNSClusterFirst}, nil,
			"search example.org svc.cluster.local\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\noptions timeout:1 rotate\n" +
				"# kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.\n"},
		"more name servers than a resolver asks": {PodDNS{Policy: corev1.DNSDefault, Config: &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.9"}}}, dnsd,
			"search example.org svc.cluster.local\nnameserver 192.0.2.53\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\noptions timeout:1 rotate\n" +
				"# Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 192.0.2.53 10.0.0.1 fe80::1%eth0\n"},
	} {
		c.pod.Namespace = "ns1"
		text, warnings := ResolvConf(c.pod, host, c.servers, "cluster.local")
		for _, w := range warnings {
			text += "# " + w + "\n"
		}
		want(t, name, text, c.want)
	}
}

func TestSearchListLimits(t *testing.T) {
	many := make([]string, 40)
	for i := range many {
		many[i] = fmt.Sprintf("d%d.example", i)
	}
	long := strings.Repeat("a.", 127) + "example" // 261 characters
	wide := make([]string, 20)
	for i := range wide {
		wide[i] = strings.Repeat(fmt.Sprintf("label%03d.", i), 22) + "example" // 205 characters
	}
	for name, c := range map[string]struct {
		searches []string
		want     int
	}{
		"32 fit":                         {many[:29], 32},
		"33 do not":                      {many[:30], 32},
		"a name over 253 is left out":    {[]string{long, "example.org"}, 4},
		"2048 characters in all":         {wide, 3 + 9},
		"2048 characters are what count": {wide[:9], 3 + 9},
	} {
		text, warnings := ResolvConf(PodDNS{Namespace: "d"}, Resolv{Searches: c.searches}, []netip.Addr{netip.MustParseAddr("10.0.0.1")}, "c.l")
		line, _, _ := strings.Cut(text, "\n")
		if got := len(strings.Fields(line)) - 1; got != c.want || len(line) > 2048+len("search ") {
			t.Errorf("%s: got %d domains in %d characters, want %d", name, got, len(line), c.want)
		}
		if cut := len(c.searches)+3 > c.want; cut != (len(warnings) == 1) {
			t.Errorf("%s: warnings %q", name, warnings)
		}
	}
}

func FuzzParseResolv(f *testing.F) {
	f.Add([]byte("nameserver 1.1.1.1\nsearch a b.\noptions ndots:5 ndots:2\n; x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := ParseResolv(b)
		text, _ := ResolvConf(PodDNS{Policy: corev1.DNSDefault, HostNetwork: true}, r, nil, "cluster.local")
		again := ParseResolv([]byte(text))
		if len(r.Nameservers) <= maxNameservers && len(r.Searches) == len(again.Searches) &&
			fmt.Sprint(again.Options) != fmt.Sprint(r.Options) {
			t.Errorf("options %q became %q", r.Options, again.Options)
		}
	})
}
