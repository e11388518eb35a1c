package record

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"
)

// Edit is one content of an object, as one node came upon it.
type Edit struct {
	Hash  string `json:"hash"` // ContentHash of the object as declared
	Stamp Stamp  `json:"stamp"`
	// Over is the largest stamp of the object that the node knew then: it changed
	// what it changed in spite of that one.
	Over Stamp `json:"over,omitempty"`
	// Back says that the node knew the content as an older one and came back to it:
	// it is no copy of that one, nor of late copies of that.
	Back bool `json:"back,omitempty"`
}

// histories is how many contents of an object are remembered.
const histories = 8

// ContentHash names a content in a history: 64 bits of its SHA-256, since the
// contents of one object are few, and whoever writes them may write anything.
func ContentHash(declared json.RawMessage) string {
	sum := sha256.Sum256(declared)
	return hex.EncodeToString(sum[:8])
}

// Seen is how a node comes upon a content.
type Seen struct {
	Now Stamp // of the node's clock
	// Joining says that the node looks at its files for the first time since it
	// started: when they were edited, it did not see. Modified is the file's time.
	Joining  bool
	Modified time.Time
	// Made says that somebody made this change on this node just now, through the
	// API: it is no copy, whatever others know of that content.
	Made bool
}

// NewEdit is the edit that a node's file makes, given what all records, its own
// among them, claim of the object.
//
// A content that they know keeps its edit: a copy that lags behind does not win,
// nor does a host that is rebuilt from an old image. But a member whose file
// goes back from a newer content to an older one is edited now. A content that
// nobody knows is new now, above all that is known of the object, however far
// another's clock is ahead; at joining it is as old as its file, or new now if
// that time is yet to come.
func NewEdit(declared json.RawMessage, node string, claims map[string]Claim, seen Seen) Edit {
	hash, all := ContentHash(declared), edits(claims)
	var newest Stamp
	for _, e := range all {
		newest = max(newest, e.Stamp)
	}
	newest = max(newest, LastDeleted(claims))
	old, had := claims[node]
	known, back := last(hash, all)
	if back && !seen.Made {
		if before, _ := last(old.edit().Hash, all); seen.Joining || !had || before.Stamp <= known.Stamp {
			return known
		}
	}
	if seen.Joining {
		stamp := min(StampAt(seen.Modified), seen.Now)
		return Edit{Hash: hash, Stamp: stamp, Over: min(newest, stamp)}
	}
	return Edit{Hash: hash, Stamp: max(seen.Now, newest, newest+1), Over: newest, Back: back}
}

// History is what a claim that makes this edit remembers: the last contents of
// the object that anybody knows.
func History(e Edit, claims map[string]Claim) []Edit {
	return remembered(append(edits(claims), e), e)
}

// remembered are the last contents of all; no copies, but keep.
func remembered(all []Edit, keep Edit) []Edit {
	list := slices.DeleteFunc(slices.Clone(all), func(o Edit) bool { return o != keep && first(o, all) != o })
	slices.SortFunc(list, compareEdits)
	list = slices.Compact(list)
	return list[max(0, len(list)-histories):]
}

func compareEdits(a, b Edit) int {
	return cmp.Or(cmp.Compare(a.Stamp, b.Stamp), cmp.Compare(a.Hash, b.Hash), cmp.Compare(a.Over, b.Over), compareBool(a.Back, b.Back))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// edit is the one that the claim is of.
func (c Claim) edit() Edit {
	var found []Edit
	for _, e := range c.History {
		if e.Stamp == c.Edited {
			found = append(found, e)
		}
	}
	if len(found) > 1 { // two nodes, one stamp
		hash := ContentHash(c.Declared)
		found = slices.DeleteFunc(found, func(e Edit) bool { return e.Hash != hash })
	}
	if len(found) > 0 {
		return found[0]
	}
	return Edit{Hash: ContentHash(c.Declared), Stamp: c.Edited, Over: c.Edited} // of a version without histories
}

// edits are all that the claims know.
func edits(claims map[string]Claim) (all []Edit) {
	for _, c := range claims {
		if len(c.History) == 0 && c.Declared != nil {
			all = append(all, c.edit())
		}
		all = append(all, c.History...)
	}
	return all
}

// last is the edit by which a content counts: the newest to it, which is the
// first of its copies.
func last(hash string, all []Edit) (e Edit, is bool) {
	for _, o := range all {
		if o.Hash == hash && (!is || compareEdits(o, e) > 0) {
			e, is = o, true
		}
	}
	return first(e, all), is
}

// first is the edit that this one is a copy of, or itself: the same file is put
// on many hosts, one after another, and each of them may see it before it hears
// of the others. An edit to the same content between all that its node knew and
// itself is one that it did not know, and has the right stamp.
//
// It goes back from one copy to the next before it: a content may be come back to
// several times.
func first(e Edit, all []Edit) Edit {
	for {
		var before Edit
		over := known(e, all)
		for _, o := range all {
			if o.Hash == e.Hash && o.Stamp > over && o.Stamp < e.Stamp && (o.Back || !e.Back) && compareEdits(o, before) > 0 {
				before = o
			}
		}
		if before.Hash == "" {
			return e
		}
		e = before
	}
}

// known is the largest stamp of what the maker of an edit knew. Where that is
// the stamp of a copy which came late (to the maker's own file, say), it says
// nothing of the edits between the copy and what it is a copy of. Stamps fall
// with each step from an edit to what it was made over, so this ends.
func known(e Edit, all []Edit) Stamp {
	over := e.Over
	if e.Back {
		return over // who comes back to a content knew it
	}
	for _, o := range all {
		if o.Stamp == e.Over && o.Stamp < e.Stamp {
			over = min(over, first(o, all).Stamp)
		}
	}
	return over
}
