// Package podnet gives the pods of one host their network: an address each, a
// veth pair to a bridge of the host, a way out, and host ports.
//
// A pod's eth0 carries a host address (/32, /128) and routes through the
// bridge's address only; bridge ports are isolated from each other. So every
// packet of a pod, even to its neighbour, is routed by the host and passes its
// packet filter once in each direction. That makes NAT between two pods of one
// host right without br_netfilter, keeps a pod from answering ARP for another,
// and is where services and policies will hook in. Neighbour and forwarding
// entries are static, hence nothing has to be learnt before the first packet.
//
// # Packet filter
//
// Everything lies in the table "inet shoal"; tables of others are never
// touched. It is written over netlink with github.com/google/nftables, not with
// sigs.k8s.io/knftables, which runs nft(8): starting a process costs more than
// attaching a pod, nft reads back all tables of the host each time, and a host
// needs no nftables package this way. A change writes the whole table in one
// transaction; it is small (a dozen rules, one element a host port).
// BenchmarkRules and BenchmarkRulesByNft measure both.
//
// A flush by somebody else is noticed at the next Attach, Detach or Check: the
// kernel numbers its rulesets (NFT_MSG_GETGEN), and only when the number is not
// the one this package left behind is the table read back and compared.
//
// Other firewalls of the host stay in force: an accept here does not undo a
// drop elsewhere. Docker sets the policy of iptables' FORWARD chain to DROP,
// which cuts pods off too; allow the bridge there (iptables -I DOCKER-USER -i
// shoal0 -j ACCEPT and -o shoal0) or in firewalld, ufw alike.
//
// # Host ports
//
// A host port is a destination NAT for all addresses of the host but the
// bridge's own (there this host's DNS server listens, and a pod with host port
// 53 must not catch its queries), or for the one hostIP. It takes precedence
// over a socket of the host on the same port, as with other CNI portmaps.
// 127.0.0.1 works from the host itself through route_localnet on the bridge,
// which is on only while a host port needs it and guarded by a rule that drops
// what pods send to 127.0.0.0/8; ::1 cannot work, the kernel has no such
// switch for IPv6.
//
// # What survives
//
// Addresses and host ports stand in Config.Dir, and each veth carries the pod's
// UID and addresses in its alias, from which a lost file is rebuilt. Open
// repairs what is missing and leaves running pods alone; Close leaves all in
// place; Remove takes everything away except net.ipv4.ip_forward and its IPv6
// like, which others may have come to rely on.
package podnet
