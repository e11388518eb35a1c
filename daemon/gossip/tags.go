package gossip

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"
)

// TagRoom is what all tags of a member share, encoded: memberlist's limit, since
// they travel in every packet that says the member lives.
const TagRoom = memberlist.MetaMaxSize

// tagSize is what a text costs in Serf's encoding (msgpack without the types of
// its later edition).
func tagSize(text string) int {
	if len(text) < 32 {
		return 1 + len(text)
	}
	return 3 + len(text)
}

// tagsSize is what tags cost: Serf's magic byte, the map's head, its texts.
func tagsSize(tags map[string]string) int {
	n := 2
	if len(tags) > 15 {
		n = 4
	}
	for k, v := range tags {
		n += tagSize(k) + tagSize(v)
	}
	return n
}

// checkTags says which tags are the largest if all do not fit.
func checkTags(tags map[string]string) error {
	size := tagsSize(tags)
	if size <= TagRoom {
		return nil
	}
	names := slices.SortedFunc(maps.Keys(tags), func(a, b string) int {
		if d := len(tags[b]) + len(b) - len(tags[a]) - len(a); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	var largest []string
	for _, name := range names[:min(3, len(names))] {
		largest = append(largest, fmt.Sprintf("%.40q with %d", name, tagSize(name)+tagSize(tags[name])))
	}
	return fmt.Errorf("gossip: the node's tags take %d bytes, and %d are all there is: the largest are %s", size, TagRoom, strings.Join(largest, ", "))
}

func copyTags(tags map[string]string) map[string]string {
	out := make(map[string]string, len(tags))
	maps.Copy(out, tags)
	return out
}
