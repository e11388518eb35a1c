// Package dnsd is the DNS server of one host: it answers its pods and the host
// itself, from a Zone for names of the cluster and from the host's own name
// servers for all others.
//
//   - Build makes a Zone out of plain inputs; SetPod, SetService and their
//     opposites change it, one pod or one service at a time.
//   - Server answers, over UDP and TCP.
//   - HostResolv and Upstreams read how the host itself resolves names.
//   - ResolvConf writes a pod's resolv.conf.
//
// What names a Zone holds follows the Kubernetes DNS specification
// (github.com/kubernetes/dns, docs/specification.md, version 1.1.0): docs/dns.md
// has it record by record. Shoal adds POD.NAMESPACE.pod.DOMAIN.
//
// A Zone holds facts, each that a name has a record, and counts by how many
// pods and services each is so. A change takes away the facts of the former
// state of one of them, and adds those of the new one; what two have in common
// stays as long as one has it.
//
// # Search lists
//
// The first question of a walk along a pod's search list is answered with what
// the walk comes to (Server.complete).
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
