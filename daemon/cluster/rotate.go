package cluster

import (
	"maps"
	"slices"
	"time"
)

// Do is what a rotation of the cluster's key does next.
type Do string

// The steps of a rotation, in their order. Each is taken when all members that
// are alive have done the one before. So at no time two of them do not
// understand each other, and who is stopped in between goes on later: what the
// members hold says how far they are.
const (
	Begin Do = "begin" // no rotation is under way: make a key
	Trust Do = "trust" // have members trust the new key
	Use   Do = "use"   // all trust it: have members use it
	Keep  Do = "keep"  // all use it; the old ones are trusted for a day
	Drop  Do = "drop"  // have members drop the old keys
	Await Do = "await" // members that are alive have not said what they hold
)

// KeptFor is how long the old keys are trusted once all members use the new one,
// unless a person ends it.
const KeptFor = 24 * time.Hour

// Step is what a rotation does next.
type Step struct {
	Do   Do
	Key  string   // the new key's name; "" for Begin
	At   []string // the members that are to do it; of Await, who is silent
	Old  []string // of Keep and Drop: the keys that go
	From string   // a member that holds the new key
}

// Members is what the members that are alive hold; nil where one has not said.
type Members map[string][]Held

// Next is the next step on the way from what members hold to one key on all of
// them. The key that a rotation made last is the new one. With finish, old keys
// go as soon as all use the new one.
func Next(members Members, finish bool, now time.Time) Step {
	fresh := newest(members)
	if fresh.ID == "" {
		if silent := members.at(func(held []Held) bool { return held == nil }); len(silent) > 0 {
			return Step{Do: Await, At: silent}
		}
		return Step{Do: Begin}
	}
	step := Step{Key: fresh.ID}
	if holders := members.at(func(held []Held) bool { return holds(held, fresh.ID) }); len(holders) > 0 {
		step.From = holders[0]
	}
	old := make(map[string]bool)
	kept := true
	for _, held := range members {
		for i, k := range held {
			old[k.ID] = k.ID != fresh.ID
			kept = kept && !(i == 0 && now.Sub(k.Used) < KeptFor)
		}
	}
	maps.DeleteFunc(old, func(_ string, is bool) bool { return !is })
	step.Old = slices.Sorted(maps.Keys(old))
	lack := members.at(func(held []Held) bool { return held != nil && !holds(held, fresh.ID) })
	silent := members.at(func(held []Held) bool { return held == nil })
	use := members.at(func(held []Held) bool { return held != nil && held[0].ID != fresh.ID })
	more := members.at(func(held []Held) bool { return len(held) > 1 })
	switch {
	case len(lack) > 0:
		step.Do, step.At = Trust, lack
	case len(silent) > 0:
		step.Do, step.At = Await, silent
	case len(use) > 0:
		step.Do, step.At = Use, use
	case len(more) == 0:
		return Step{Do: Begin}
	case finish || kept:
		step.Do, step.At = Drop, more
	default:
		step.Do = Keep
	}
	return step
}

// newest is the key that a rotation made last; the zero value where none did. It
// is no sign of a rotation under way: all may hold it alone.
func newest(members Members) (fresh Held) {
	for _, held := range members {
		for _, k := range held {
			if !k.Made.IsZero() && (fresh.ID == "" || fresh.before(k)) {
				fresh = k
			}
		}
	}
	return fresh
}

func holds(held []Held, id string) bool {
	return slices.ContainsFunc(held, func(k Held) bool { return k.ID == id })
}

// at are the members of which something is so, by name.
func (m Members) at(is func([]Held) bool) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if is(m[name]) {
			names = append(names, name)
		}
	}
	return names
}
