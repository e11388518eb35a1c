package podnet

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"regexp"
	"strings"
)

var vethPattern = regexp.MustCompile(`^shoal[0-9a-f]{10}$`)

// vethName is the host's end of a pod's veth: stable, and within IFNAMSIZ.
func vethName(uid string) string {
	sum := sha256.Sum256([]byte(uid))
	return "shoal" + hex.EncodeToString(sum[:5])
}

// hardwareAddr is the MAC of whoever holds addr. Made of the address, it is the
// same after a restart and for the next pod with that address, so that no
// neighbour entry is ever stale. 0a:58 (locally administered) is what CNI
// plugins use.
func hardwareAddr(addr netip.Addr) net.HardwareAddr {
	b := addr.AsSlice()
	return append(net.HardwareAddr{0x0a, 0x58}, b[len(b)-4:]...)
}

// alias is what a veth says of its pod, for people reading ip-link(8) and for
// rebuilding a lost ledger. Namespace and name may be cut: IFALIASZ is 256.
func (l lease) alias() string {
	words := []string{"shoal", l.UID}
	for _, a := range l.Addrs {
		words = append(words, a.String())
	}
	s := strings.Join(append(words, l.PodRef.String()), " ")
	return s[:min(len(s), 255)]
}

// parseAlias is the inverse of alias; it reports false for another's alias.
func parseAlias(s string) (lease, bool) {
	words := strings.Fields(s)
	if len(words) < 3 || words[0] != "shoal" {
		return lease{}, false
	}
	l := lease{PodRef: PodRef{UID: words[1]}}
	for _, w := range words[2:] {
		if a, err := netip.ParseAddr(w); err == nil {
			l.Addrs = append(l.Addrs, a)
		} else {
			l.Namespace, l.Name, _ = strings.Cut(w, "/")
		}
	}
	return l, len(l.Addrs) > 0
}
