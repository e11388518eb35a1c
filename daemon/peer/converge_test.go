package peer

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/record"
)

// fleet is some hosts on a network that loses messages, in a time of its own.
type fleet struct {
	t     *rapid.T
	wire  *wire
	now   time.Time
	hosts []*member
	lossy bool
}

// member is one host of it, over all its restarts.
type member struct {
	*Endpoint
	set  *Set
	pins *cluster.Pins
	disk map[string]*record.Record
	peer Peer
}

func newFleet(t *rapid.T, n int) *fleet {
	f := &fleet{t: t, now: time.UnixMilli(1000), lossy: true, wire: &wire{hosts: make(map[string]*Endpoint)}}
	f.wire.lost = func() (bool, bool) {
		if !f.lossy {
			return false, false
		}
		what := rapid.IntRange(0, 7).Draw(t, "lost")
		return what == 6, what == 7
	}
	for i := range n {
		f.add(fmt.Sprint("n", i), fmt.Sprint("address", i))
		f.hosts[i].set.PublishFirst()
	}
	return f
}

func (f *fleet) add(node, address string) *member {
	pins, err := cluster.OpenPins("", func(string) {})
	if err != nil {
		f.t.Fatal(err)
	}
	m := &member{pins: pins, peer: Peer{node, address}}
	f.hosts = append(f.hosts, m)
	f.start(m)
	return m
}

// start has a host begin with what is on its disk.
func (f *fleet) start(m *member) {
	key := keyOf(m.peer.Node)
	now := func() time.Time { return f.now }
	records := make(map[string]*record.Record)
	for node, r := range m.disk {
		records[node] = r.Clone()
	}
	m.set = NewSet(SetConfig{Node: m.peer.Node, Cluster: ours.ID, Key: key, Pins: m.pins, Records: records, Now: now})
	m.Endpoint = newEndpoint(Config{Node: m.peer.Node, Key: key, Pins: m.pins, Set: m.set, Cluster: func() cluster.ID { return ours }, Now: now})
	m.config.Log = quiet
	m.caller = f.wire.from(cluster.Identity{Node: m.peer.Node, Key: key.Public().(ed25519.PublicKey)})
	f.wire.hosts[m.peer.Address] = m.Endpoint
}

// save is what reaches the disk before a power cut.
func (m *member) save() {
	m.disk = make(map[string]*record.Record)
	m.set.Read(func(all map[string]*record.Record) {
		for node, r := range all {
			m.disk[node] = r.Clone()
		}
	})
}

func (f *fleet) draw() *member { return f.hosts[rapid.IntRange(0, len(f.hosts)-1).Draw(f.t, "host")] }

func (f *fleet) publish(m *member) {
	key := fmt.Sprint("k", rapid.IntRange(0, 4).Draw(f.t, "key"))
	value := rapid.SampledFrom([]string{"", `1`, `{"a": "<b>"}`}).Draw(f.t, "value")
	d, err := m.set.Publish(record.StampAt(f.now), values(key, value))
	if err != nil || d.Head.Signature == nil || !rapid.Bool().Draw(f.t, "push") {
		return
	}
	_ = m.Push(f.t.Context(), d, f.draw().peer) // it may be lost
}

func (f *fleet) exchange(a, b *member) {
	if a.peer.Node == b.peer.Node {
		return
	}
	if err := a.Sync(f.t.Context(), b.peer); err == nil && !a.set.Published() {
		a.set.PublishFirst()
	}
}

// forge brings a host what a node never signed.
func (f *fleet) forge(victim *member, i int) {
	source := f.draw()
	a, has, err := source.set.Answer(Want{Node: f.draw().peer.Node})
	if err != nil || !has || len(a.Delta.Entries) == 0 || a.Delta.Entries[0].Value == nil {
		return
	}
	list := append([]record.Entry(nil), a.Delta.Entries...)
	list[0].Value = json.RawMessage(`"forged"`)
	a.Delta.Entries = list
	if h := &a.Delta.Head; victim.pins.Key(h.Node) != nil && rapid.Bool().Draw(f.t, "own key") {
		a.Delta.Seq += 100
		forged := record.New(h.Node, h.Incarnation)
		forged.Seq, forged.Floor = a.Delta.Seq, a.Delta.Floor
		for _, e := range list {
			forged.Entries[e.Name] = e
		}
		*h, a.Key = forged.Sign(ours.ID, keyOf("evil")), keyOf("evil").Public().(ed25519.PublicKey)
	}
	evil := cluster.Identity{Node: fmt.Sprint("evil", i)}
	victim.answer(evil, &message{Hello: hello{1, 1, ours}, Answers: answers{a}})
}

// settle has everybody exchange with everybody, with no loss, until it can't
// change anything any more.
func (f *fleet) settle() {
	f.lossy = false
	for range 3 {
		f.now = f.now.Add(2 * aloneFor)
		for _, a := range f.hosts {
			for _, b := range f.hosts {
				f.exchange(a, b)
			}
		}
	}
}

// TestGoodNodesConverge: whatever is published, lost, cut off, restarted,
// forgotten, cloned and forged, in the end all have of each node what that node
// says, nothing of a forgery, and nobody honest was taken for a liar.
func TestGoodNodesConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFleet(t, rapid.IntRange(2, 4).Draw(t, "hosts"))
		cloned := ""
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			f.now = f.now.Add(time.Second)
			m := f.draw()
			switch rapid.IntRange(0, 14).Draw(t, "what") {
			case 0:
				m.save()
			case 1:
				m.save()
				f.start(m) // an orderly restart
			case 2:
				f.start(m) // a power cut
			case 3:
				m.disk = nil
				f.start(m) // a lost disk
			case 4:
				m.set.Compact(0)
			case 5:
				f.forge(m, i)
			case 6:
				if cloned == "" && rapid.IntRange(0, 3).Draw(t, "clone") == 0 {
					cloned = m.peer.Node
					twin := f.add(cloned, "clone")
					m.save()
					twin.disk, twin.pins = m.disk, m.pins
					f.start(twin)
					if rapid.Bool().Draw(t, "at one moment") {
						f.start(m)
						m.set.PublishFirst()
						twin.set.PublishFirst()
					}
				}
			case 7, 8, 9, 10:
				f.exchange(m, f.draw())
			default:
				f.publish(m)
			}
		}
		f.settle()
		f.check(cloned)
	})
}

func (f *fleet) check(cloned string) {
	var good *member
	for _, m := range f.hosts {
		for _, other := range f.hosts {
			if m.chosen.isAlone(other.peer.Node, f.now.Add(-2*aloneFor)) || !m.chosen.alone[other.peer.Node].IsZero() {
				f.t.Fatalf("%s takes %s for a liar", m.peer, other.peer)
			}
		}
		has := content(m.set)
		if text := fmt.Sprint(has); strings.Contains(text, "forged") {
			f.t.Fatalf("%s has what was forged: %s", m.peer, text)
		}
		if m.peer.Node == cloned {
			continue
		}
		if m.set.Twin() != nil {
			f.t.Fatalf("%s believes that it has a twin", m.peer)
		}
		for _, owner := range f.hosts {
			node := owner.peer.Node
			if got, want := has[node], content(owner.set)[node]; node != cloned && !reflect.DeepEqual(got, want) {
				f.t.Fatalf("%s has %v of %s, which has %v", m.peer, got, node, want)
			}
		}
		if good == nil {
			good = m
		}
		if good.set.Digest() != m.set.Digest() {
			f.t.Fatalf("%s and %s have other heads:\n%v\n%v", good.peer, m.peer, good.set.Heads(), m.set.Heads())
		}
	}
}
