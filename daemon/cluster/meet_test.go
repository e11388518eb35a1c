package cluster

import "testing"

func TestWhoGivesUpItsIDIsTheSameSeenFromBothEnds(t *testing.T) {
	lone := func(id string, minted int64) ID { return ID{ID: id, Minted: minted} }
	settled := func(id string, minted int64) ID { return ID{ID: id, Minted: minted, Settled: true} }
	mirrored := map[Meeting]Meeting{Refuse: Refuse, Same: Same, Yield: TheyYield, TheyYield: Yield}
	for _, tt := range []struct {
		name string
		a, b ID
		want Meeting
	}{
		{"one cluster", settled("a", 1), settled("a", 1), Same},
		{"one cluster, of which one host does not know yet", lone("a", 1), settled("a", 1), Same},
		{"two clusters", settled("a", 1), settled("b", 2), Refuse},
		{"a new host and a cluster", lone("a", 1), settled("b", 2), Yield},
		{"a new host whose id is older than the cluster's", lone("a", 1), settled("b", 9), Yield},
		{"two new hosts, the other is older", lone("a", 2), lone("b", 1), Yield},
		{"two new hosts, this one is older", lone("b", 1), lone("a", 2), TheyYield},
		{"two new hosts of one moment", lone("b", 1), lone("a", 1), Yield},
	} {
		if got := Meet(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
		if got := Meet(tt.b, tt.a); got != mirrored[tt.want] {
			t.Errorf("%s, from the other end: got %d, want %d", tt.name, got, mirrored[tt.want])
		}
	}
	for _, bad := range []ID{{}, {ID: string(make([]byte, 65))}} {
		if bad.Check() == nil {
			t.Errorf("%q is taken for an id", bad.ID)
		}
	}
}
