package daemon

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
)

// What news is called in gossip.
const (
	newsDelta = "delta" // a peer.Answer, JSON, deflated
	newsHead  = "head"  // a peer.Summary, JSON: there is more than fits
)

const (
	// newsPause is between two pieces of news of one host: what comes in between
	// goes out as one. Gossip is sent every 200 ms.
	newsPause = 100 * time.Millisecond
	// newsRaw is how much may be deflated to fit into gossip.MaxNews, and how much
	// is inflated of what others say.
	newsRaw = 32 << 10
	// newsPull is the longest wait before a host asks for what was announced: a
	// hundred hosts are not to ask at once.
	newsPull = 500 * time.Millisecond
)

// news is what is to be told.
type news struct {
	wake chan struct{} // holds one: this host has published
	tags chan struct{} // holds one: the tags may have changed

	mu  *sync.Mutex
	act map[string]bool // nodes that are to act on it
}

func newNews() news {
	return news{make(chan struct{}, 1), make(chan struct{}, 1), new(sync.Mutex), make(map[string]bool)}
}

// spread has the others hear what this host has just published: those that must
// act on it at once.
func (d *Daemon) spread(delta record.Delta) {
	if delta.Head.Signature == nil || d.fleet.peers.Load() == nil {
		return
	}
	act := d.actors(delta.Entries)
	n := &d.fleet.news
	n.mu.Lock()
	for _, node := range act {
		n.act[node] = true
	}
	n.mu.Unlock()
	wake(n.wake)
}

// actors are the nodes that must act on these entries of this host's record: the
// node that a pod is decided for, those that decide about what a status is of,
// and the steward of what is claimed.
func (d *Daemon) actors(entries []record.Entry) (nodes []string) {
	for _, e := range entries {
		key, err := manifests.ParseKey(e.Name.Key)
		if err != nil {
			continue
		}
		if e.Name.Section == record.Decisions && key.GroupKind() == podKind && e.Value != nil {
			var p struct{ Spec v1.PodSpec }
			if json.Unmarshal(e.Value, &p) == nil {
				nodes = append(nodes, p.Spec.NodeName)
			}
		}
		nodes = append(nodes, d.stewardOf(key))
		if e.Name.Section != record.Status {
			continue
		}
		d.records.Read(func(records map[string]*record.Record) {
			for node, r := range records {
				if r.Entries[record.Name{Section: record.Decisions, Key: e.Name.Key}].Value != nil {
					nodes = append(nodes, node)
				}
			}
		})
	}
	return nodes
}

// tellNews pushes what this host publishes to those that must act, and lets the
// others know by gossip.
func (d *Daemon) tellNews(ctx context.Context, g *gossip.Gossip, e *peer.Endpoint) {
	me := d.Config.Node
	pushed := d.records.Head(me).Seq
	told := pushed
	var pushes sync.WaitGroup
	defer pushes.Wait()
	var mu sync.Mutex
	busy := make(map[string]bool)
	var pause <-chan time.Time
	for {
		select {
		case <-d.fleet.news.wake:
		case <-pause:
			pause = nil
		case <-ctx.Done():
			return
		}
		a, ok := d.records.News(pushed)
		if !ok {
			continue
		}
		for _, p := range d.toPush(g, &mu, busy) {
			pushes.Go(func() {
				within, cancel := context.WithTimeout(ctx, 5*time.Second)
				err := e.Push(within, a.Delta, p)
				cancel()
				if err != nil && ctx.Err() == nil {
					d.Log.Debug("news did not reach a node that is to act on it", "node", p.Node, "err", err)
				}
				mu.Lock()
				delete(busy, p.Node)
				mu.Unlock()
				d.fleet.news.mu.Lock()
				more := d.fleet.news.act[p.Node]
				d.fleet.news.mu.Unlock()
				if more {
					wake(d.fleet.news.wake)
				}
			})
		}
		pushed = a.Delta.Seq
		if pause != nil || told == a.Delta.Seq {
			continue
		}
		if err := d.gossipNews(g, told); err != nil {
			d.Log.Debug("news is not gossiped", "err", err)
		}
		told = a.Delta.Seq
		pause = time.After(newsPause)
	}
}

// toPush takes the nodes that are to hear at once and are not being told.
func (d *Daemon) toPush(g *gossip.Gossip, mu *sync.Mutex, busy map[string]bool) (list []peer.Peer) {
	n := &d.fleet.news
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.act) == 0 {
		return nil
	}
	there := make(map[string]bool)
	for _, p := range peersOf(g, d.Config.Node) {
		there[p.Node] = true
		mu.Lock()
		is := busy[p.Node]
		if n.act[p.Node] && !is {
			busy[p.Node] = true
			delete(n.act, p.Node)
			list = append(list, p)
		}
		mu.Unlock()
	}
	for node := range n.act {
		if !there[node] {
			delete(n.act, node) // it hears when it is there again
		}
	}
	return list
}

// gossipNews tells all members what is new after a sequence number.
func (d *Daemon) gossipNews(g *gossip.Gossip, after uint64) error {
	a, ok := d.records.News(after)
	if !ok {
		return nil
	}
	if raw, err := json.Marshal(a); err == nil && len(raw) <= newsRaw {
		if packed := deflate(raw); len(packed) <= gossip.MaxNews {
			return g.Send(newsDelta, packed)
		}
	}
	head, err := json.Marshal(peer.Summary{Node: a.Delta.Node, Incarnation: a.Delta.Incarnation, Seq: a.Delta.Seq})
	if err != nil {
		return err
	}
	return g.Send(newsHead, head)
}

func deflate(raw []byte) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.DefaultCompression)
	if err != nil {
		panic(err) // of the level
	}
	_, _ = w.Write(raw) // into memory
	_ = w.Close()
	return b.Bytes()
}

func inflate(packed []byte) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), newsRaw+1))
	if err == nil && len(raw) > newsRaw {
		err = errors.New("news that is too large once it is inflated")
	}
	return raw, err
}

// hearNews takes in what others say, and asks for what they can't say in gossip.
func (d *Daemon) hearNews(ctx context.Context, g *gossip.Gossip, e *peer.Endpoint) {
	var pulls sync.WaitGroup
	defer pulls.Wait()
	var mu sync.Mutex
	busy := make(map[string]bool)
	for {
		var n gossip.News
		select {
		case n = <-g.News():
		case <-ctx.Done():
			return
		}
		node, err := d.takeNews(n)
		if err != nil {
			d.Log.Debug("news is of no use", "err", err)
		}
		if node == "" {
			continue
		}
		mu.Lock()
		was := busy[node]
		busy[node] = true
		mu.Unlock()
		if was {
			continue
		}
		pulls.Go(func() {
			d.pull(ctx, g, e, node)
			mu.Lock()
			delete(busy, node)
			mu.Unlock()
		})
	}
}

// takeNews takes in one piece of news, and names the node whose record is to be
// asked for.
func (d *Daemon) takeNews(n gossip.News) (ask string, err error) {
	switch n.Name {
	case newsDelta:
		raw, err := inflate(n.Payload)
		if err != nil {
			return "", err
		}
		var a peer.Answer
		if err := json.Unmarshal(raw, &a); err != nil || a.Delta.Node == d.Config.Node {
			return "", err
		}
		_, err = d.records.Merge(a)
		if errors.Is(err, record.ErrGap) || errors.Is(err, record.ErrMismatch) {
			return a.Delta.Node, nil
		}
		return "", err
	case newsHead:
		var s peer.Summary
		if err := json.Unmarshal(n.Payload, &s); err != nil || s.Node == d.Config.Node {
			return "", err
		}
		if (record.Head{Incarnation: s.Incarnation, Seq: s.Seq}).Compare(d.records.Head(s.Node)) > 0 {
			return s.Node, nil
		}
	}
	return "", nil
}

// pull exchanges with a node that has something new.
func (d *Daemon) pull(ctx context.Context, g *gossip.Gossip, e *peer.Endpoint, node string) {
	peers := peersOf(g, d.Config.Node)
	wait := min(time.Duration(len(peers))*5*time.Millisecond, newsPull)
	select {
	case <-time.After(time.Duration(rand.Int64N(int64(wait) + 1))):
	case <-ctx.Done():
		return
	}
	for _, p := range peers {
		if p.Node != node {
			continue
		}
		if err := e.Sync(ctx, p); err != nil && ctx.Err() == nil {
			d.Log.Debug("what a node has announced is not to be had from it now", "node", node, "err", err)
		}
	}
}
