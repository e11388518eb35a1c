package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
	"github.com/shoal-project/shoal/proxy/podcidr"
	"github.com/shoal-project/shoal/proxy/podnet"
	"github.com/shoal-project/shoal/proxy/podroute"
)

// annotationNetwork is where a node's object says how its pods are reached.
const annotationNetwork = "shoal.io/pod-network"

// metaRanges is this node's claims in the store.
const metaRanges = "pod-cidrs"

// rangeClaim is a claim as it is written down.
type rangeClaim struct {
	CIDR  netip.Prefix `json:"cidr"`
	Since int64        `json:"since"` // Unix ms
	Fixed bool         `json:"fixed,omitempty"`
}

// networkSaid is what a node says of its pods' network, in annotationNetwork.
type networkSaid struct {
	Claims []rangeClaim `json:"claims,omitempty"`
	Spaces []string     `json:"spaces,omitempty"` // how the cluster's range is cut, by its configuration
	podroute.Site
}

// spacesText is how spaces are written down, for comparing.
func spacesText(spaces []podcidr.Space) (list []string) {
	for _, s := range spaces {
		list = append(list, fmt.Sprintf("%v by /%d", s.Prefix, s.Mask))
	}
	return list
}

// othersSaid is what the other nodes say, by the order of their names. It may be
// called from anywhere.
func (d *Daemon) othersSaid() (list []networkSaid) {
	d.records.Read(func(records map[string]*record.Record) {
		for node, r := range records {
			e := r.Entries[record.Name{Section: record.Status, Key: (manifests.Key{Kind: "Node", Name: node}).String()}]
			if node == d.Config.Node || e.Value == nil {
				continue
			}
			var object struct {
				Metadata struct {
					Annotations map[string]string `json:"annotations"`
				} `json:"metadata"`
			}
			var said networkSaid
			if json.Unmarshal(e.Value, &object) != nil || json.Unmarshal([]byte(object.Metadata.Annotations[annotationNetwork]), &said) != nil {
				continue // of a version that says nothing of it
			}
			said.Node = node
			list = append(list, said)
		}
	})
	slices.SortFunc(list, func(a, b networkSaid) int { return strings.Compare(a.Node, b.Node) })
	return list
}

// claimsOf are all claims in what nodes say. A range that is none is left out.
func claimsOf(said []networkSaid) (list []podcidr.Claim) {
	for _, s := range said {
		for _, c := range s.Claims {
			if c.CIDR.IsValid() && !c.CIDR.Addr().Is4In6() {
				list = append(list, podcidr.Claim{Node: s.Node, CIDR: c.CIDR.Masked(), Since: c.Since, Fixed: c.Fixed})
			}
		}
	}
	return list
}

// claiming of ranges: what is known when a node looks at its claims.
type rangeLook struct {
	node    string
	network config.Network
	have    []podcidr.Claim // its claims so far
	leased  []netip.Prefix  // ranges that its pods have addresses of, where it has no claim
	others  []podcidr.Claim
	avoid   []netip.Prefix // this host's own networks
	now     int64          // Unix ms
}

// claims are what the node claims now, in the order of the configuration, and
// what a person should know of it. A family without a range is in the error.
func (l rangeLook) claims() (list []podcidr.Claim, problems []string, err error) {
	spaces := l.network.Spaces()
	var errs []error
	take := func(c podcidr.Claim, text string, err error) {
		if text != "" {
			problems = append(problems, text)
		}
		if err != nil {
			errs = append(errs, err)
			return
		}
		list = append(list, c)
	}
	if len(l.network.PodCIDRs) == 0 {
		for _, s := range spaces {
			c, err := l.claim(s)
			take(c, "", err)
		}
	}
	for _, p := range l.network.PodCIDRs {
		take(l.fixed(p, spaces))
	}
	for _, c := range list {
		if i := slices.IndexFunc(l.avoid, c.CIDR.Overlaps); i >= 0 {
			problems = append(problems, fmt.Sprintf("the pod CIDR %v overlaps this host's own network %v: one of the two can't be reached; set network.cluster_cidrs to another range on all hosts", c.CIDR, l.avoid[i]))
		}
	}
	return list, problems, errors.Join(errs...)
}

// claim keeps the node's range if it can, else takes that of its running pods, or
// a free one.
func (l rangeLook) claim(s podcidr.Space) (podcidr.Claim, error) {
	for _, c := range l.have {
		if s.Holds(c.CIDR) {
			c.Fixed = false
			if _, loses := podcidr.Loses(c, l.others); !loses {
				return c, nil
			}
		}
	}
	for _, p := range l.leased {
		c := podcidr.Claim{Node: l.node, CIDR: p, Since: podcidr.Since(l.others, l.now)}
		if _, loses := podcidr.Loses(c, l.others); s.Holds(p) && !loses {
			return c, nil
		}
	}
	return podcidr.Next(s, l.node, l.others, l.avoid, l.now)
}

// fixed is the configured range, or another one with the reason.
func (l rangeLook) fixed(p netip.Prefix, spaces []podcidr.Space) (podcidr.Claim, string, error) {
	c := podcidr.Claim{Node: l.node, CIDR: p.Masked(), Since: podcidr.Since(l.others, l.now), Fixed: true}
	for _, h := range l.have {
		if h.CIDR == c.CIDR && h.Fixed {
			c.Since = h.Since
		}
	}
	to, loses := podcidr.Loses(c, l.others)
	if !loses {
		return c, "", nil
	}
	text := fmt.Sprintf("network.pod_cidrs = %v is taken by node %s (%v), which was first", p, to.Node, to.CIDR)
	for _, s := range spaces {
		if s.Prefix.Addr().Is4() == p.Addr().Is4() && s.Validate() == nil {
			other, err := l.claim(s)
			if err != nil {
				return c, text, err
			}
			return other, fmt.Sprintf("%s: this node uses %v; set another one", text, other.CIDR), nil
		}
	}
	return c, text, fmt.Errorf("%s: set another one", text)
}

// ownClaims are those of the store.
func (d *Daemon) ownClaims() (list []podcidr.Claim) {
	var kept []rangeClaim
	if text := d.store.Meta(metaRanges); text != "" && json.Unmarshal([]byte(text), &kept) != nil {
		d.Log.Error("this node's pod CIDRs in the store can't be read: it claims anew")
	}
	return claimsOf([]networkSaid{{Claims: kept, Site: podroute.Site{Node: d.Config.Node}}})
}

// keepClaims is durable when it returns.
func (d *Daemon) keepClaims(claims []podcidr.Claim) error {
	value, err := json.Marshal(written(claims))
	if err != nil || d.store.Meta(metaRanges) == string(value) {
		return err
	}
	if err := d.store.SetMeta(metaRanges, string(value)); err != nil {
		return fmt.Errorf("write this node's pod CIDRs: %w", err)
	}
	return nil
}

func written(claims []podcidr.Claim) (list []rangeClaim) {
	for _, c := range claims {
		list = append(list, rangeClaim{CIDR: c.CIDR, Since: c.Since, Fixed: c.Fixed})
	}
	return list
}

// firstClaims are the claims that the pod network is opened with.
func (d *Daemon) firstClaims(avoid []netip.Prefix) ([]podcidr.Claim, []string, error) {
	said := d.othersSaid()
	l := rangeLook{
		node: d.Config.Node, network: d.Config.Network, have: d.ownClaims(), others: claimsOf(said), avoid: avoid,
		leased: podnet.Leased(d.path("run/shoal/net")), now: d.Now().UnixMilli(),
	}
	claims, problems, err := l.claims()
	if len(claims) == 0 {
		return nil, problems, err
	}
	if err != nil {
		problems = append(problems, err.Error())
	}
	return claims, problems, d.keepClaims(claims)
}

func cidrsOf(claims []podcidr.Claim) (list []netip.Prefix) {
	for _, c := range claims {
		list = append(list, c.CIDR)
	}
	return list
}

// sinceText is when a claim was made, for people.
func sinceText(c podcidr.Claim) string { return time.UnixMilli(c.Since).UTC().Format(time.RFC3339) }
