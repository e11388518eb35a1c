package record

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func text(content string) json.RawMessage { return json.RawMessage(fmt.Sprintf("%q", content)) }

// claimOf is what a node claims after it came upon a content.
func claimOf(content, node string, claims map[string]Claim, seen Seen) Claim {
	e := NewEdit(text(content), node, claims, seen)
	return Claim{Declared: text(content), Edited: e.Stamp, History: History(e, claims)}
}

func TestEditStamps(t *testing.T) {
	at := func(seconds int) Stamp { return StampAt(time.Unix(int64(seconds), 0)) }
	now := Seen{Now: at(100)}
	joining := Seen{Now: at(100), Joining: true, Modified: time.Unix(50, 0)}
	v1 := Edit{Hash: ContentHash(text("v1")), Stamp: at(10), Over: 0}
	v2 := Edit{Hash: ContentHash(text("v2")), Stamp: at(20), Over: at(10)}
	v3 := Edit{Hash: ContentHash(text("v3")), Stamp: at(30), Over: at(20)}
	claims := func(content string, history ...Edit) Claim {
		return Claim{Declared: text(content), Edited: history[len(history)-1].Stamp, History: history}
	}
	ahead := claims("v3", v1, Edit{Hash: v3.Hash, Stamp: at(90000), Over: at(10)})
	for _, c := range []struct {
		name    string
		content string
		claims  map[string]Claim
		seen    Seen
		want    Stamp
	}{
		{"the first content", "v1", nil, now, at(100)},
		{"new content on a member", "v4", map[string]Claim{"n1": claims("v1", v1)}, now, at(100)},
		{"a copy that lags goes from v1 to v2 after v3", "v2", map[string]Claim{"n1": claims("v1", v1), "n2": claims("v3", v1, v2, v3)}, now, at(20)},
		{"a copy on a host that had none", "v2", map[string]Claim{"n2": claims("v3", v1, v2, v3)}, now, at(20)},
		{"a member goes back from v2 to v1", "v1", map[string]Claim{"n1": claims("v2", v1, v2)}, now, at(100)},
		{"another that goes back after it is a copy", "v1", map[string]Claim{"n1": claims("v2", v1, v2), "n2": claims("v1", v1, v2, Edit{Hash: v1.Hash, Stamp: at(40), Over: at(20)})}, now, at(40)},
		{"an old image joins", "v1", map[string]Claim{"n1": claims("v3", v1, v2, v3)}, joining, at(10)},
		{"unknown content joins", "v4", map[string]Claim{"n2": claims("v3", v1, v2, v3)}, joining, at(50)},
		{"unknown content of tomorrow joins", "v4", nil, Seen{Now: at(100), Joining: true, Modified: time.Unix(99999, 0)}, at(100)},
		{"of before all times", "v4", nil, Seen{Now: at(100), Joining: true}, 0},
		{"new content after that of a host whose clock is ahead", "v4", map[string]Claim{"n1": claims("v1", v1), "n2": ahead}, now, at(90000) + 1},
		{"a stamp that nothing is above", "v4", map[string]Claim{"n1": {Declared: text("v1"), Edited: math.MaxUint64}}, now, math.MaxUint64},
		{"a claim of a version without histories is known too", "v1", map[string]Claim{"n2": {Declared: text("v1"), Edited: at(7)}}, now, at(7)},
	} {
		if got := NewEdit(text(c.content), "n1", c.claims, c.seen); got.Stamp != c.want || got.Hash != ContentHash(text(c.content)) {
			t.Errorf("%s: got %v, want %v", c.name, got.Stamp, c.want)
		}
	}
}

// TestACopyIsAsOldAsWhatItIsOf: the file is on n2 before n2 hears of n1's, and
// n3 has edited it meanwhile.
func TestACopyIsAsOldAsWhatItIsOf(t *testing.T) {
	v1 := claimOf("v1", "n1", nil, Seen{Now: 10})
	n1 := claimOf("v2", "n1", map[string]Claim{"n1": v1}, Seen{Now: 20})
	n3 := claimOf("v3", "n3", map[string]Claim{"n1": n1, "n3": v1}, Seen{Now: 22})
	n2 := claimOf("v2", "n2", map[string]Claim{"n1": v1, "n2": v1}, Seen{Now: 25})
	if node, c := Winner(map[string]Claim{"n1": n1, "n2": n2, "n3": n3}); node != "n3" {
		t.Errorf("%s wins with %s", node, c.Declared)
	}
	if node, _ := Winner(map[string]Claim{"n1": v1, "n2": n2, "n3": n3}); node != "n3" {
		t.Errorf("when n1's file is gone, %s wins: what n3 remembers is lost", node)
	}
}

func TestAHistoryIsShort(t *testing.T) {
	claims := make(map[string]Claim)
	for i := range 30 {
		claims["n1"] = claimOf(fmt.Sprint("v", i), "n1", claims, Seen{Now: Stamp(i + 1)})
	}
	h := claims["n1"].History
	if len(h) != histories || h[len(h)-1].Stamp != 30 || h[0].Stamp != 23 {
		t.Errorf("got %v", h)
	}
}

// truth is what really happened: who made an edit had seen these others.
type truth struct {
	content string
	saw     map[int]bool
}

// edited is a fleet of hosts with one file each.
type edited struct {
	hosts []string
	files map[string]string           // by host
	views map[string]map[string]Claim // by host, by node
	clock map[string]Stamp            // ahead of or behind real time, by host
	apart bool                        // the clocks
	now   Stamp
	edits []truth
	known map[string]int // by host, which edit its file is of
	saw   map[string]map[int]bool
	heard map[string]map[string]int // by host and node: of how many of its changes
	past  map[string][]version
}

// version is one version of a node's claim, with what whoever hears it knows.
type version struct {
	claim *Claim
	saw   map[int]bool
}

func (f *edited) publish(host string, c *Claim) {
	f.past[host] = append(f.past[host], version{c, maps.Clone(f.saw[host])})
	f.hear(host, host)
}

// hear has a host learn the newest that a node says.
func (f *edited) hear(host, node string) {
	list := f.past[node]
	if len(list) == 0 || f.heard[host][node] == len(list) {
		return
	}
	f.heard[host][node] = len(list)
	last := list[len(list)-1]
	delete(f.views[host], node)
	if last.claim != nil {
		f.views[host][node] = *last.claim
		maps.Copy(f.saw[host], last.saw)
	}
}

// write puts a content into a host's file; is is the edit that it is of.
func (f *edited) write(host, content string, is int, seen Seen) {
	f.files[host], f.known[host] = content, is
	f.saw[host][is] = true
	c := claimOf(content, host, f.views[host], seen)
	f.publish(host, &c)
}

func (f *edited) member(host string) Seen { return Seen{Now: f.now + f.clock[host]} }

// edit makes a content that is new, or goes back to one that the host had.
func (f *edited) edit(host, content string) {
	saw := maps.Clone(f.saw[host])
	if f.apart { // what no claim remembers that the host knows is above no stamp of it
		all := edits(f.views[host])
		maps.DeleteFunc(saw, func(id int, _ bool) bool {
			return !slices.ContainsFunc(all, func(e Edit) bool { return e.Hash == ContentHash(text(f.edits[id].content)) })
		})
	}
	f.edits = append(f.edits, truth{content, saw})
	f.write(host, content, len(f.edits)-1, f.member(host))
}

// TestTheNewestEditWinsEverywhere: hosts edit, put copies on other hosts (which
// have not heard of them, or whose clocks are a day apart), remove files, go back, and
// are rebuilt from old images. When all have heard of all, all have one winner,
// and nobody has claimed another content who had seen that one.
func TestTheNewestEditWinsEverywhere(t *testing.T) {
	var different int
	rapid.Check(t, func(t *rapid.T) {
		day := Stamp(24*3600*1000) << 16
		f := &edited{files: map[string]string{}, views: map[string]map[string]Claim{}, clock: map[string]Stamp{}, now: 10 * day,
			known: map[string]int{}, saw: map[string]map[int]bool{}, heard: map[string]map[string]int{}, past: map[string][]version{}}
		apart := rapid.Bool().Draw(t, "clocks are apart")
		f.apart = apart
		for i := range rapid.IntRange(2, 4).Draw(t, "hosts") {
			h := fmt.Sprint("n", i+1)
			f.hosts = append(f.hosts, h)
			f.views[h], f.saw[h], f.heard[h] = map[string]Claim{}, map[int]bool{}, map[string]int{}
			if !apart {
				continue
			}
			f.clock[h] = rapid.SampledFrom([]Stamp{0, day, -day}).Draw(t, "clock")
		}
		host := func(what string) string { return rapid.SampledFrom(f.hosts).Draw(t, what) }
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			f.now += Stamp(rapid.IntRange(1, 5000).Draw(t, "ms")) << 16
			h := host("host")
			switch what := rapid.IntRange(0, 9).Draw(t, "what"); {
			case what < 4:
				f.hear(h, host("of"))
			case what < 6 && len(f.edits) < histories/2:
				f.edit(h, fmt.Sprint("v", len(f.edits)))
			case what == 6 && !apart && f.files[h] != "" && len(f.edits) < histories/2: // goes back
				if older := f.olderThan(h); older != "" {
					f.edit(h, older)
				}
			case what == 7: // a copy of what another host has and this one is behind of
				from := host("from")
				if f.files[from] == "" || f.files[from] == f.files[h] || f.files[h] != "" && !f.edits[f.known[from]].saw[f.known[h]] {
					break
				}
				if apart || f.knowsMore(h, f.known[from]) { // docs/fleet.md names these limits
					f.hear(h, from)
				}
				if f.isComeBackTo(h, f.files[from]) {
					break
				}
				f.write(h, f.files[from], f.known[from], f.member(h))
			case what == 8 && f.files[h] != "" && rapid.Bool().Draw(t, "gone"):
				delete(f.files, h)
				f.publish(h, nil)
			case what == 9: // an old image, in a fleet that remembers it
				f.oldImage(t, h)
			}
		}
		f.check(t, &different)
	})
	if different == 0 && !testing.Short() { // with -short there are 20 cases
		t.Error("never did hosts have different contents: the test shows nothing")
	}
}

// isComeBackTo says whether the host knows that somebody else has come back to
// the content that it has, after the one that it gets now: who puts that into its
// file may well be undoing that, and so it counts as an edit (docs/fleet.md).
func (f *edited) isComeBackTo(host, next string) bool {
	own, had := f.views[host][host]
	if !had {
		return false
	}
	times := 0
	for _, e := range f.edits {
		if ContentHash(text(e.content)) == ContentHash(own.Declared) {
			times++
		}
	}
	all := edits(f.views[host])
	mine, _ := last(ContentHash(own.Declared), all)
	other, is := last(ContentHash(text(next)), all)
	return is && mine.Stamp > other.Stamp && times > 1
}

// olderThan is a content that the host's own was made after.
func (f *edited) olderThan(host string) string {
	for _, id := range slices.Sorted(maps.Keys(f.edits[f.known[host]].saw)) {
		if f.edits[id].content != f.files[host] {
			return f.edits[id].content
		}
	}
	return ""
}

// oldImage starts a host anew with a content that it had, after it has taken
// back its record.
func (f *edited) oldImage(t *rapid.T, host string) {
	for _, node := range f.hosts {
		f.hear(host, node)
	}
	var had []string
	for _, s := range f.past[host] {
		if s.claim != nil && slices.ContainsFunc(edits(f.views[host]), func(e Edit) bool { return e.Hash == ContentHash(s.claim.Declared) }) {
			var content string
			json.Unmarshal(s.claim.Declared, &content)
			had = append(had, content)
		}
	}
	if len(had) == 0 || f.files[host] == "" {
		return
	}
	content := rapid.SampledFrom(had).Draw(t, "had")
	if content == f.files[host] {
		return
	}
	// Which of several edits to this content is still remembered is not known here:
	// at least the first.
	first := slices.IndexFunc(f.edits, func(e truth) bool { return e.content == content })
	f.write(host, content, first, Seen{Now: f.now + f.clock[host], Joining: true})
}

func (f *edited) check(t *rapid.T, different *int) {
	winner := ""
	contents := make(map[string]bool)
	for _, h := range f.hosts {
		for _, node := range f.hosts {
			f.hear(h, node)
		}
		if len(f.views[h]) == 0 {
			return
		}
		node, _ := Winner(f.views[h])
		if winner != "" && node != winner {
			t.Fatalf("%s wins on %s, %s elsewhere", node, h, winner)
		}
		winner = node
		contents[f.files[node]] = true
	}
	for h, content := range f.files {
		if content != f.files[winner] {
			*different++
			if f.after(f.known[h], f.files[winner]) {
				t.Fatalf("%s wins with edit %d (%s), and %s has edit %d (%s), which was made after it: %+v", winner, f.known[winner], f.files[winner],
					h, f.known[h], content, f.views[h])
			}
		}
	}
}

// after says whether an edit was made by who had seen all edits to a content.
func (f *edited) after(edit int, content string) bool {
	for id, e := range f.edits {
		if e.content == content && !f.edits[edit].saw[id] {
			return false
		}
	}
	return true
}

// knowsMore says whether a host has seen an edit that who made this one had not,
// or one to the same content.
func (f *edited) knowsMore(host string, edit int) bool {
	for id, e := range f.edits {
		if id != edit && e.content == f.edits[edit].content {
			return true
		}
	}
	for id := range f.saw[host] {
		if id != edit && !f.edits[edit].saw[id] {
			return true
		}
	}
	return false
}

// TestWhoPutsOldCopiesWinsNothing: n3 has heard of nobody and puts two old copies, one after the other. The second was made
// after the stamp of the first, and is no new edit for it: n2's, which was made of the same content, is in force.
func TestWhoPutsOldCopiesWinsNothing(t *testing.T) {
	a, b, c := ContentHash(text("a")), ContentHash(text("b")), ContentHash(text("c"))
	known := []Edit{{Hash: a, Stamp: 3}, {Hash: b, Stamp: 16, Over: 3}, {Hash: c, Stamp: 25, Over: 16}}
	claims := map[string]Claim{
		"n1": {Declared: text("b"), Edited: 16, History: known[:2]},
		"n2": {Declared: text("c"), Edited: 25, History: known},
		"n3": {Declared: text("b"), Edited: 26, History: []Edit{{Hash: a, Stamp: 17}, {Hash: b, Stamp: 26, Over: 17}}},
	}
	if node, _ := Winner(claims); node != "n2" {
		t.Errorf("%s wins, want n2, whose edit is the newest", node)
	}
}
