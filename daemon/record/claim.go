package record

import "encoding/json"

// Claim is the value of an entry in section Claims: one object as a file of
// the node declares it.
type Claim struct {
	Declared json.RawMessage `json:"declared"` // the object as written, canonical JSON, before defaulting
	File     string          `json:"file"`
	Line     int             `json:"line,omitempty"`
	Edited   Stamp           `json:"edited"` // when the content was seen to change: the newest edit wins
	Born     Stamp           `json:"born"`   // since when the object exists without a break; part of its UID
	// Generation counts the edits of anything but metadata, from 1; 0 in records of versions that did not count.
	Generation int64 `json:"generation,omitempty"`
	// History is the last contents of the object, by stamp, the claim's own among
	// them; none in records of versions that did not remember.
	History []Edit `json:"history,omitempty"`
}

// Winner is which of several nodes' claims of one object is in force: the
// newest edit, by all that the claims know of their contents, and of equal
// stamps the node whose name sorts first. Claims is by node and not empty.
func Winner(claims map[string]Claim) (node string, claim Claim) {
	if len(claims) == 1 {
		for node, claim = range claims {
			return node, claim
		}
	}
	var edited Stamp
	all := edits(claims)
	for n, c := range claims {
		e, _ := last(c.edit().Hash, all)
		if at := e.Stamp; node == "" || at > edited || at == edited && n < node {
			node, claim, edited = n, c, at
		}
	}
	return node, claim
}

// Born is since when the object exists: the oldest of its claims' stamps.
func Born(claims map[string]Claim) Stamp {
	var born Stamp
	for _, c := range claims {
		if born == 0 || c.Born < born {
			born = c.Born
		}
	}
	return born
}

// Generation is the object's: the largest of its claims'. Whoever edits counts on
// from what all nodes say.
func Generation(claims map[string]Claim) int64 {
	generation := int64(1)
	for _, c := range claims {
		generation = max(generation, c.Generation)
	}
	return generation
}
