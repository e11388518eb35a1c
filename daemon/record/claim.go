package record

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Claim is the value of an entry in section Claims: one object as a file of
// the node declares it.
type Claim struct {
	// Declared is the object as written, canonical JSON, before defaulting; none in
	// a claim that says Deleted alone.
	Declared json.RawMessage `json:"declared,omitempty"`
	File     string          `json:"file"`
	Line     int             `json:"line,omitempty"`
	Edited   Stamp           `json:"edited"` // when the content was seen to change: the newest edit wins
	Born     Stamp           `json:"born"`   // since when the object exists without a break; part of its UID
	// Merged is since when the object existed on this node, before it heard that it
	// is older than that: at most the last eight of these. What was made there is of
	// the same object, with another UID of it.
	Merged []Stamp `json:"merged,omitempty"`
	// Generation counts the edits of anything but metadata, from 1; 0 in records of versions that did not count.
	Generation int64 `json:"generation,omitempty"`
	// History is the last contents of the object, by stamp, the claim's own among
	// them; none in records of versions that did not remember.
	History []Edit `json:"history,omitempty"`

	// Sealed and SealedHistory stand for Declared and History where only those who
	// hold the cluster's key may read them. Nothing in this package looks into them.
	Sealed        []byte `json:"sealed,omitempty"`
	SealedHistory []byte `json:"sealedHistory,omitempty"`

	// Written says that the API wrote it: whoever may use the API on any node
	// deletes it. All else is declared by people's files, and goes with those.
	Written bool `json:"written,omitempty"`
	// Overrides is the content (ContentHash) of the file that the API wrote it over.
	// It counts while a file on some node says just that.
	Overrides string `json:"overrides,omitempty"`
	// Filed is the file of the claim's own node that the API wrote it over; it is
	// not Written then, as that file declares the object.
	Filed string `json:"filed,omitempty"`
	// Deleted is when the object was deleted through the API: what the API wrote
	// until then counts no more, on whichever node its file is.
	Deleted Stamp `json:"deleted,omitempty"`
}

// Counting are the claims of an object, by node, that bear on what is in force:
// those that were not deleted and those over which nothing was written that is
// gone by now.
func Counting(claims map[string]Claim) map[string]Claim {
	deleted, plain := LastDeleted(claims), true
	for _, c := range claims {
		plain = plain && c.Declared != nil && c.Overrides == ""
	}
	if plain && deleted == 0 {
		return claims
	}
	counting := maps.Clone(claims)
	maps.DeleteFunc(counting, func(_ string, c Claim) bool { return c.Declared == nil || c.Written && c.Edited <= deleted })
	said := make(map[string]bool)
	for _, c := range counting {
		if !c.Written {
			said[ContentHash(c.Declared)] = true
		}
	}
	maps.DeleteFunc(counting, func(_ string, c Claim) bool { return c.Overrides != "" && !said[c.Overrides] })
	return counting
}

// Deletion is what a node claims of an object that was deleted there through the
// API, now: what the API wrote, on any node, counts no more.
func Deletion(node string, claims map[string]Claim, now Stamp) Claim {
	c := claims[node]
	if c.Written {
		c = Claim{}
	}
	all := edits(claims)
	c.History = remembered(all, Edit{})
	for _, e := range all {
		now = max(now, e.Stamp)
	}
	c.Deleted = now
	return c
}

// LastDeleted is when the object was last deleted through the API, as far as the
// claims tell: 0 when it was not.
func LastDeleted(claims map[string]Claim) (deleted Stamp) {
	for _, c := range claims {
		deleted = max(deleted, c.Deleted)
	}
	return deleted
}

// Winner is which of several nodes' claims of one object is in force: the
// newest edit, by all that the claims know of their contents, and of equal
// stamps the node whose name sorts first. Node is "" when no claim counts.
func Winner(claims map[string]Claim) (node string, claim Claim) {
	counting := Counting(claims)
	if len(counting) == 1 {
		for node, claim = range counting {
			return node, claim
		}
	}
	var edited Stamp
	all := edits(claims)
	for n, c := range counting {
		e, _ := last(c.edit().Hash, all)
		if at := e.Stamp; node == "" || at > edited || at == edited && n < node {
			node, claim, edited = n, c, at
		}
	}
	return node, claim
}

// Born is since when the object exists: the oldest of its claims' stamps, 0 when
// none counts.
func Born(claims map[string]Claim) Stamp {
	var born Stamp
	for _, c := range Counting(claims) {
		if born == 0 || c.Born != 0 && c.Born < born {
			born = c.Born
		}
	}
	return born
}

// Births are since when the object existed on nodes that did not know it to be
// older (Born), in order. Hosts that declare an object before they meet make it
// twice.
func Births(claims map[string]Claim) (births []Stamp) {
	born := Born(claims)
	for _, c := range Counting(claims) {
		for _, b := range append(slices.Clone(c.Merged), c.Born) {
			if b != 0 && b != born && !slices.Contains(births, b) {
				births = append(births, b)
			}
		}
	}
	slices.Sort(births)
	return births
}

// maxMerged is how many births a claim remembers: who was made when its host was
// cut off that often has been looked at since.
const maxMerged = 8

// merged is what a claim remembers that was born, and is now older than that.
func merged(before []Stamp, was, born Stamp) []Stamp {
	if was == 0 || was == born || slices.Contains(before, was) {
		return before
	}
	before = append(slices.Clone(before), was)
	return before[max(0, len(before)-maxMerged):]
}

// BornAt is the claim, of an object that exists since born, given what the node
// claimed of it before.
func (c Claim) BornAt(born Stamp, old Claim) Claim {
	c.Born, c.Merged = born, old.Merged
	if old.Declared != nil || old.Sealed != nil {
		c.Merged = merged(old.Merged, old.Born, born)
	}
	return c
}

// Generation is the object's: the largest of the claims of what is in force, and
// more than that of any other content. Whoever edits counts on from what all
// nodes say.
func Generation(claims map[string]Claim) int64 {
	_, winner := Winner(claims)
	same, others := int64(1), int64(0)
	for _, c := range Counting(claims) {
		if SameButMetadata(c.Declared, winner.Declared) {
			same = max(same, c.Generation)
		} else {
			others = max(others, c.Generation)
		}
	}
	return max(same, others+1)
}

// SameButMetadata compares two objects as they were declared, which is in
// canonical form: only a change of something else makes a new generation.
func SameButMetadata(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y map[string]json.RawMessage
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	delete(x, "metadata")
	delete(y, "metadata")
	return maps.EqualFunc(x, y, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
}

// TakenBack is a claim that a node made before it had its record back, given what
// it claimed of the same object before it lost that: the object is as old as it
// was, and a content that it had before keeps its edit. What can't be read is
// left as the node made it.
func TakenBack(before, made json.RawMessage) json.RawMessage {
	var old, c Claim
	if json.Unmarshal(before, &old) != nil || json.Unmarshal(made, &c) != nil {
		return made
	}
	c.Deleted = max(c.Deleted, old.Deleted)
	if old.Declared == nil && old.Sealed == nil {
		old.Born = 0
	}
	wasBorn := c.Born
	if old.Born != 0 && old.Born < c.Born || c.Born == 0 {
		c.Born = old.Born
	}
	for _, b := range append(c.Merged, wasBorn, old.Born) {
		old.Merged = merged(old.Merged, b, c.Born)
	}
	c.Merged = old.Merged
	switch {
	case bytes.Equal(old.Declared, c.Declared) && bytes.Equal(old.Sealed, c.Sealed):
		c.Edited, c.History, c.SealedHistory = old.Edited, old.History, old.SealedHistory
		c.Generation = max(c.Generation, old.Generation)
	case old.Declared != nil && c.Declared != nil:
		c.History = History(c.edit(), map[string]Claim{"": old})
		fallthrough
	default:
		c.Generation = max(c.Generation, old.Generation+1)
	}
	both, err := json.Marshal(c)
	if err != nil {
		return made
	}
	return both
}
