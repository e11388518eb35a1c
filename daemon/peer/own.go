package peer

import (
	"encoding/json"

	"github.com/shoal-project/shoal/daemon/record"
)

// verdict is what a head of this node's own record, brought by a peer and
// properly signed, means.
type verdict int

const (
	ignore   verdict = iota // it is known, or older
	takeBack                // this host has lost what it once published: an empty store, an old image, a power cut
	twin                    // another host publishes under this name and key
)

// judge says what it means. Mine is this record's head as it is, or, before it
// published anything in this run, as it was signed last: a host can't have
// published what it does not know of after its start, and before it may have.
//
// One that is new, with an empty store, may have published before its peers told
// it what it was: the first that were heard did not know it. With a clock that is
// behind what it said was then less than what it had said before, and it takes
// that back after all.
func judge(mine, seen record.Head, published, isNew bool) verdict {
	switch c := seen.Compare(mine); {
	case c > 0 && (!published || isNew && seen.Incarnation > mine.Incarnation):
		return takeBack
	case c > 0:
		return twin
	case c == 0 && mine.Signature != nil && record.Cloned(mine, seen):
		return twin
	}
	return ignore
}

// drafts are the values that the node wrote before it published anything in this
// run, after sequence number loaded, as they go into the record that it took
// back: claims follow its files; of decisions and status what was taken back
// counts.
func drafts(own *record.Record, loaded uint64, taken *record.Record) (map[record.Name]json.RawMessage, record.Stamp) {
	values := make(map[record.Name]json.RawMessage)
	var newest record.Stamp
	for name, e := range own.Entries {
		back, had := taken.Entries[name]
		if e.Seq <= loaded || had && name.Section != record.Claims {
			continue
		}
		values[name] = e.Value
		if e.Value != nil && back.Value != nil {
			values[name] = record.TakenBack(back.Value, e.Value)
		}
		newest = max(newest, e.Stamp)
	}
	return values, newest
}
