package daemon

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/gossip"
)

// TestWhoCountsForDeciding: a name, then what is so of it.
func TestWhoCountsForDeciding(t *testing.T) {
	ready := map[string]string{tagReady: "1"}
	n2 := gossip.Member{Name: "n2", Status: gossip.Alive, Tags: ready}
	for _, tt := range []struct {
		name string
		is   sight
		want string
	}{
		{"a host alone", sight{}, "n1 alive ready"},
		{"a host that was one of several", sight{known: []string{"n1", "n2"}, since: time.Hour}, "n1 alive ready; n2"},
		{"among others", sight{running: true, published: true, seen: []gossip.Member{n2}, known: []string{"n1", "n2", "n3"}, since: time.Hour},
			"n1 alive ready; n2 alive ready; n3"},
		{"a member that begins", sight{running: true, published: true, seen: []gossip.Member{{Name: "n2", Status: gossip.Alive}}, since: time.Hour},
			"n1 alive ready; n2 alive"},
		{"members that go", sight{running: true, published: true, since: time.Hour, seen: []gossip.Member{
			{Name: "n2", Status: gossip.Alive, Tags: map[string]string{tagReady: "1", tagLeaving: "1"}},
			{Name: "n3", Status: gossip.Leaving, Tags: ready}, {Name: "n4", Status: gossip.Left, Tags: ready}, {Name: "n5", Status: gossip.Failed, Tags: ready}}},
			"n1 alive ready; n2 alive ready leaving; n3 alive ready leaving; n4 ready leaving; n5 ready"},
		{"this host shuts down", sight{leaving: true}, "n1 alive ready leaving"},
		{"one that left, of which gossip knows nothing any more", sight{running: true, tried: true, known: []string{"n1", "n2"}, left: map[string]bool{"n2": true}},
			"n1 alive ready; n2 leaving"},
		// A restart: the others decide on, and this host waits for their news.
		{"just started, not looked yet", sight{running: true, known: []string{"n1", "n2"}}, "n1 alive; n2 alive ready"},
		{"just started, one is seen", sight{running: true, tried: true, known: []string{"n1", "n2", "n3"}, seen: []gossip.Member{n2}}, "n1 alive; n2 alive ready; n3 alive ready"},
		{"just started, one is seen to have failed", sight{running: true, tried: true, known: []string{"n1", "n2"}, seen: []gossip.Member{{Name: "n2", Status: gossip.Failed}}}, "n1 alive ready; n2"},
		{"a dead network", sight{running: true, tried: true, known: []string{"n1", "n2"}, since: membersGrace}, "n1 alive ready; n2"},
		{"others are seen, and none can be heard", sight{running: true, tried: true, seen: []gossip.Member{n2}, since: membersGrace}, "n1 alive ready; n2 alive ready"},
		{"published within the grace", sight{running: true, tried: true, published: true, seen: []gossip.Member{n2}, known: []string{"n3"}}, "n1 alive ready; n2 alive ready; n3 alive ready"},
		// The first start: nobody is known.
		{"the first start", sight{running: true}, "n1 alive"},
		{"those to join refuse or don't exist", sight{running: true, tried: true}, "n1 alive ready"},
		{"those to join are silent", sight{running: true, since: triedGrace}, "n1 alive ready"},
		{"one of those to join is there", sight{running: true, tried: true, seen: []gossip.Member{n2}, since: triedGrace}, "n1 alive; n2 alive ready"},
	} {
		tt.is.me = "n1"
		var got []string
		for _, m := range tt.is.members() {
			text := m.Name
			if m.Alive {
				text += " alive"
			}
			if m.Ready {
				text += " ready"
			}
			if m.Leaving {
				text += " leaving"
			}
			got = append(got, text)
		}
		if text := strings.Join(got, "; "); text != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, text, tt.want)
		}
	}
}

func TestWhenAClusterIsSettled(t *testing.T) {
	now := time.Unix(1e9, 0)
	d := func(ago time.Duration) int64 { return now.Add(-ago).UnixMilli() }
	mine := idOf(gossip.Member{Tags: map[string]string{tagCluster: "a", tagMinted: "z"}})
	member := func(id, is string) []gossip.Member {
		return []gossip.Member{{Name: "n2", Status: gossip.Alive, Tags: map[string]string{tagCluster: id, tagSettled: is}}}
	}
	for _, tt := range []struct {
		name    string
		met     int64
		members []gossip.Member
		want    bool
	}{
		{"nobody was met", 0, nil, false},
		{"just met", d(time.Second), member("a", ""), false},
		{"met long ago", d(settleAfter), nil, true},
		{"a member says so", 0, member("a", "1"), true},
		{"another cluster's member says so", 0, member("b", "1"), false},
	} {
		if got := hasSettled(mine, tt.met, now, tt.members); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}

func TestNewsIsSmallOrRefused(t *testing.T) {
	raw := []byte(strings.Repeat(`{"a":1}`, 1000))
	back, err := inflate(deflate(raw))
	if err != nil || string(back) != string(raw) {
		t.Errorf("%v, %d bytes of %d", err, len(back), len(raw))
	}
	if _, err := inflate(deflate(make([]byte, newsRaw+1))); err == nil {
		t.Error("a small message became a large one")
	}
	for _, broken := range []string{"", "x", fmt.Sprintf("%s!", deflate(raw)[:20])} {
		if _, err := inflate([]byte(broken)); err == nil {
			t.Errorf("%q is news", broken)
		}
	}
}
