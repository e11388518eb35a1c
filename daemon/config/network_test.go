package config

import (
	"strings"
	"testing"
)

func TestANetworkThatMakesNoSenseIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`cluster_cidrs = ["10.244.0.0/16", "10.245.0.0/16"]`:                 "at most one prefix of IPv4 and one of IPv6",
		`cluster_cidrs = ["10.244.7.0/16"]`:                                  "bits behind the prefix: want 10.244.0.0/16",
		`cluster_cidrs = ["10.244.0.0/26"]`:                                  "too small for even one node's /24",
		`cluster_cidrs = ["fd00::/32"]`:                                      "more than 65536 ranges of /64: want /48",
		"node_mask_ipv4 = 31":                                                "no room for a gateway and a pod",
		"cluster_cidrs = [\"10.244.0.0/16\"]\npod_cidrs = [\"10.0.0.0/24\"]": "want ranges in network.cluster_cidrs ([10.244.0.0/16])",
		`service_cidrs = ["10.244.8.0/24"]`:                                  "it overlaps pods' addresses, network.cluster_cidrs 10.244.0.0/16",
		`service_cidrs = ["10.0.0.0/8"]`:                                     "want a range of 8 to 1048576 addresses",
		`node_port_range = "30000"`:                                          `"30000" is no range of ports: want "30000-32767"`,
		`backend = "ipip"`:                                                   `want "auto", "wireguard", "vxlan", "host-gw"`,
		"wireguard_port = 70000":                                             "want a port, 1 to 65535",
		"mtu = 100":                                                          "want 576 (1280 with IPv6) to 65535, or 0",
	} {
		_, err := Parse("shoal.toml", []byte("[network]\n"+text), "host")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestARangeElsewhereIsAClusterOfItsOwn(t *testing.T) {
	c, err := Parse("shoal.toml", []byte("[network]\npod_cidrs = [\"172.30.0.0/24\", \"fd00:7::/64\"]"), "host")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Network.ClusterCIDRs; len(got) != 2 || got[0].String() != "172.30.0.0/24" {
		t.Errorf("cluster_cidrs: %v", got)
	}
}
