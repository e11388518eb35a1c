package podnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxIfName is IFNAMSIZ less the closing zero.
const maxIfName = 15

// Config says what the pod network of this host is.
type Config struct {
	Bridge        string         // empty: shoal0
	PodCIDRs      []netip.Prefix // required: one of IPv4, one of IPv6, or both in the order wanted in status.podIPs
	NonMasquerade []netip.Prefix // destinations that see pods' own addresses, besides PodCIDRs
	Services      []netip.Prefix // services' addresses: this host's packets to them leave by the bridge, whatever else it has
	MTU           int            // bytes; 0: that of the default route's device, else 1500
	LinkLocal     bool           // masquerade to link-local addresses too, as ip-masq-agent's masqLinkLocal
	Reach         Reach          // what is known of other hosts
	Dir           string         // allocations are kept here, mode 0700; empty: /run/shoal/net
}

func (c Config) withDefaults() Config {
	if c.Bridge == "" {
		c.Bridge = "shoal0"
	}
	if c.Dir == "" {
		c.Dir = "/run/shoal/net"
	}
	c.PodCIDRs = slices.Clone(c.PodCIDRs)
	for i, p := range c.PodCIDRs {
		c.PodCIDRs[i] = p.Masked()
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	if len(c.Bridge) > maxIfName || strings.ContainsAny(c.Bridge, "/ \t\n:") || c.Bridge == "." || c.Bridge == ".." {
		errs = append(errs, fmt.Errorf("bridge name %q: want 1 to %d characters, none of them / : or space", c.Bridge, maxIfName))
	}
	if len(c.PodCIDRs) == 0 {
		errs = append(errs, errors.New("no pod CIDR"))
	}
	var v4, v6 int
	for _, p := range c.PodCIDRs {
		switch {
		case !p.IsValid() || p.Addr().Is4In6():
			errs = append(errs, fmt.Errorf("pod CIDR %v is not a prefix", p))
			continue
		case p.Addr().Is4():
			v4++
		default:
			v6++
		}
		if hostBits(p) < 2 {
			errs = append(errs, fmt.Errorf("pod CIDR %v has no room for a gateway and a pod", p))
		}
	}
	if v4 > 1 || v6 > 1 {
		errs = append(errs, errors.New("more than one pod CIDR of the same family"))
	}
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > 65535 || v6 > 0 && c.MTU < 1280) {
		errs = append(errs, fmt.Errorf("MTU %d: want 576 (1280 with IPv6) to 65535", c.MTU))
	}
	return errors.Join(errs...)
}

// PodRef names a pod.
type PodRef struct {
	UID       string
	Namespace string
	Name      string
}

func (p PodRef) String() string { return p.Namespace + "/" + p.Name }

// Protocol is an IP protocol that has ports. Its text form is Kubernetes'.
type Protocol uint8

// The protocols of a Kubernetes port; the values are IANA's.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

var protocolNames = map[Protocol]string{TCP: "TCP", UDP: "UDP", SCTP: "SCTP"}

func (p Protocol) String() string {
	if s, ok := protocolNames[p]; ok {
		return s
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// MarshalText gives TCP, UDP or SCTP.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is the inverse of MarshalText; the empty text means TCP, as in
// Kubernetes.
func (p *Protocol) UnmarshalText(b []byte) error {
	for v, s := range protocolNames {
		if s == string(b) || (len(b) == 0 && v == TCP) {
			*p = v
			return nil
		}
	}
	return fmt.Errorf("protocol %q: want TCP, UDP or SCTP", b)
}

// HostPort leads a port of the host to one of a pod.
//
// HostIP: the zero Addr means all addresses of the host in each family that
// the pod has, 0.0.0.0 and :: all of that family.
type HostPort struct {
	HostIP        netip.Addr
	HostPort      uint16
	ContainerPort uint16
	Protocol      Protocol
}

func (h HostPort) String() string {
	if !h.HostIP.IsValid() {
		return fmt.Sprintf("%d/%s", h.HostPort, h.Protocol)
	}
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(h.HostIP, h.HostPort), h.Protocol)
}

func (h HostPort) validate() error {
	if _, ok := protocolNames[h.Protocol]; !ok || h.HostPort == 0 || h.ContainerPort == 0 {
		return fmt.Errorf("host port %v to container port %d: want ports from 1 and TCP, UDP or SCTP", h, h.ContainerPort)
	}
	return nil
}

// everywhere tells whether h takes the port on all host addresses of addr's family.
func (h HostPort) everywhere(addr netip.Addr) bool {
	return !h.HostIP.IsValid() || h.HostIP.IsUnspecified() && h.HostIP.Is4() == addr.Is4()
}

// applies tells whether h leads to a pod address addr at all: NAT does not
// change the family.
func (h HostPort) applies(addr netip.Addr) bool {
	return !h.HostIP.IsValid() || h.HostIP.Is4() == addr.Is4()
}

// conflicts tells whether one host packet could match both.
func (h HostPort) conflicts(o HostPort) bool {
	if h.HostPort != o.HostPort || h.Protocol != o.Protocol {
		return false
	}
	if !h.HostIP.IsValid() || !o.HostIP.IsValid() {
		return true
	}
	if h.HostIP.Is4() != o.HostIP.Is4() {
		return false
	}
	return h.HostIP == o.HostIP || h.HostIP.IsUnspecified() || o.HostIP.IsUnspecified()
}

// PortTakenError says that another pod holds a host port.
type PortTakenError struct {
	Port   HostPort
	Holder PodRef
}

func (e *PortTakenError) Error() string {
	return fmt.Sprintf("host port %v is taken by pod %v", e.Port, e.Holder)
}
