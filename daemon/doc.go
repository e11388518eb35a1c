// Package daemon is shoald: it wires files, records, the view, the deciders and
// what carries their decisions out. See docs/architecture.md for the house.
//
// One goroutine, the loop in Run, owns the node's record and everything derived
// from it. Others send it functions.
package daemon
