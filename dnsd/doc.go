// Package dnsd is the DNS server of one host: it answers its pods and the host
// itself, from a Zone for names of the cluster and from the host's own name
// servers for all others.
//
//   - Build makes a Zone out of plain inputs. A Zone never changes; SetZone
//     swaps the whole.
//   - Server answers, over UDP and TCP.
//   - HostResolv and Upstreams read how the host itself resolves names.
//   - ResolvConf writes a pod's resolv.conf.
//
// What names a Zone holds follows the Kubernetes DNS specification
// (github.com/kubernetes/dns, docs/specification.md, version 1.1.0), as far as
// pods go; services are not in it yet. Shoal adds POD.NAMESPACE.pod.DOMAIN.
//
// # Forwarding
//
// One upstream is asked at a time, each within 2 s, those that failed lately
// last; a failed one is probed in the background, not with a user's query.
// Every query has a socket, and so a source port, of its own, a random id, and
// its answer must repeat the question. Queries for one name wait for one
// another, which also breaks a loop over another resolver that forwards back to
// this server; an upstream that is this server itself is left out.
//
// Of EDNS0 the DO bit, CD and extended errors (RFC 8914) pass; options between
// two hops (cookies, padding, client subnets) end here, since answers are shared
// in a cache.
package dnsd
