// Package witness keeps daemon/lease's State on several hosts with
// hashicorp/raft, and serves leases and claims where it leads. Streams between
// the witnesses, clocks and the directory are handed in. docs/lease.md is the
// protocol.
package witness
