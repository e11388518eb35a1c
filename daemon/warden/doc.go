// Package warden is a host's lease process: it keeps the host's lease
// (daemon/gate), is a witness where the host has a seat (daemon/witness), and
// asks the witnesses' leader, wherever that is. It runs apart from the daemon, in
// a small program of its own (cmd/shoal-lease), and outlives it: who the members
// are it is told over a socket (daemon/tenure), and goes on with that.
package warden
