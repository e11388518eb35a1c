// Package service leads connections for Kubernetes Services to their endpoints,
// with one nftables table of its own.
//
// Rules says what one service is on one node: which addresses and ports lead to
// which endpoints, and for whom. It is pure. Table holds the rules of all
// services and says what changes in the kernel's sets when one of them does.
// Proxy writes that, in one transaction.
//
// # The table "inet shoal-services"
//
// A new connection meets one lookup, whatever the number of services: address,
// protocol and port lead to a chain that is shared by all services with that
// many endpoints. Its one rule takes a number by chance and looks up that slot of
// the service. So a service that changes touches its own elements only: one
// endpoint more is one slot and one verdict.
//
// Whose source address is hidden, so that answers come back through this node,
// carries the mark 0x4000 until it leaves, as with kube-proxy.
//
// Endpoints that end get no new connections; those that run go on, for the
// kernel's connection tracking knows them. Flows of UDP to an endpoint that is
// gone are forgotten, since their clients would never notice.
//
// What is specified elsewhere: kube-proxy's documentation of virtual IPs
// (https://kubernetes.io/docs/reference/networking/virtual-ips/), KEP-1669
// (terminating endpoints), KEP-2086 and KEP-4444 (traffic policies and
// distribution).
package service
