package cluster

import (
	"cmp"
	"fmt"
)

// ID is the cluster that a host believes to be in (docs/fleet.md, "The
// cluster's id").
type ID struct {
	ID      string `json:"id"`
	Settled bool   `json:"settled,omitempty"` // the host has had a peer in it
	Minted  int64  `json:"minted"`            // when, in Unix milliseconds by the clock of the host that minted it
}

// Check is an error for what is no ID.
func (i ID) Check() error {
	if i.ID == "" || len(i.ID) > 64 {
		return fmt.Errorf("a cluster id of %d characters, want 1 to 64", len(i.ID))
	}
	return nil
}

// Meeting is what becomes of two hosts that meet.
type Meeting int

// What Meet answers.
const (
	Refuse    Meeting = iota // two clusters have met: both go their own way
	Same                     // they are of one cluster
	Yield                    // this host gives up its id for the other's
	TheyYield                // the other one does
)

// Meet says what becomes of two hosts: an id that no other host shares yet
// yields to one that is shared, and of two unshared ones the younger (by its
// mint, then by the larger id) yields. Both ends come to the same answer.
func Meet(mine, theirs ID) Meeting {
	switch {
	case mine.ID == theirs.ID:
		return Same
	case mine.Settled && theirs.Settled:
		return Refuse
	case mine.Settled:
		return TheyYield
	case theirs.Settled, cmp.Or(cmp.Compare(mine.Minted, theirs.Minted), cmp.Compare(mine.ID, theirs.ID)) > 0:
		return Yield
	}
	return TheyYield
}
