// Package lease decides about exclusive work: what must never run twice. It is
// the protocol of docs/lease.md without any effect. Clocks are passed in.
//
// Three machines make it up. State is what the witnesses agree on: a log of
// Commands, applied in order, leads each of them to the same State. Leader is
// what the witnesses' leader knows beside it and loses with its term: when it
// last heard of whom. Node is the lease process of a host: until when the host's
// exclusive pods may run, and what becomes of them afterwards.
//
// model_test.go searches all that these three can do together, with leaders,
// messages, processes and hosts failing around them.
package lease
