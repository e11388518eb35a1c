package peer

import (
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// neighbours is with how many peers a node exchanges in turns. Each of them
	// costs an open stream; among eight random ones news is everywhere in as many
	// rounds as among all.
	neighbours = 8
	// turnover is after how many exchanges one of them makes room for another.
	turnover = 30
	// aloneFor is how long a peer that lied is not talked to.
	aloneFor = time.Minute
	// longestBackoff is how seldom one that can't be reached is tried.
	longestBackoff = 30 * time.Second
	// enough is how many peers must have been heard before the first publication,
	// if there are so many: one may be behind.
	enough = 3
)

// chooser says with whom to exchange next.
type chooser struct {
	near   []string
	turns  int
	failed map[string]failure
	alone  map[string]time.Time // until when
	busy   map[string]bool
	heard  map[string]bool // since the start; nil when it were enough
}

// failure is how often in a row an exchange failed.
type failure struct {
	times int
	again time.Time // when it is tried next
}

func newChooser() chooser {
	return chooser{failed: make(map[string]failure), alone: make(map[string]time.Time), busy: make(map[string]bool), heard: make(map[string]bool)}
}

// next is with whom, and counts it as begun. It is false if there is nobody.
func (c *chooser) next(peers []Peer, now time.Time, random *rand.Rand) (Peer, bool) {
	c.forget(peers)
	may := func(node string) bool {
		return !c.busy[node] && !now.Before(c.failed[node].again) && !c.isAlone(node, now)
	}
	byName := make(map[string]Peer, len(peers))
	var others []string
	for _, p := range peers {
		byName[p.Node] = p
		if may(p.Node) && !slices.Contains(c.near, p.Node) {
			others = append(others, p.Node)
		}
	}
	slices.Sort(others) // peers come in any order
	c.near = slices.DeleteFunc(c.near, func(node string) bool { return !may(node) && !c.busy[node] })
	if c.turns++; c.turns%turnover == 0 && len(others) > 0 && len(c.near) == neighbours {
		i := random.IntN(len(c.near))
		c.near = slices.Delete(c.near, i, i+1)
	}
	for len(c.near) < neighbours && len(others) > 0 {
		i := random.IntN(len(others))
		c.near = append(c.near, others[i])
		others = slices.Delete(others, i, i+1)
	}
	free := slices.DeleteFunc(slices.Clone(c.near), func(node string) bool { return !may(node) })
	if len(free) == 0 {
		return Peer{}, false
	}
	node := free[random.IntN(len(free))]
	c.busy[node] = true
	return byName[node], true
}

// forget drops what is known of nodes that are no peers any more.
func (c *chooser) forget(peers []Peer) {
	is := make(map[string]bool, len(peers))
	for _, p := range peers {
		is[p.Node] = true
	}
	c.near = slices.DeleteFunc(c.near, func(node string) bool { return !is[node] })
	for node := range c.failed {
		if !is[node] {
			delete(c.failed, node)
		}
	}
}

// done says how an exchange ended. The first failure in a row is to be told.
func (c *chooser) done(node string, now time.Time, err error) (first bool) {
	delete(c.busy, node)
	if err == nil {
		delete(c.failed, node)
		if c.heard != nil {
			c.heard[node] = true
		}
		return false
	}
	f := c.failed[node]
	f.again = now.Add(min(time.Second<<min(f.times, 10), longestBackoff))
	f.times++
	c.failed[node] = f
	return f.times == 1
}

// heardEnough says whether so many peers were heard that there is no more to
// wait for.
func (c *chooser) heardEnough(known int) bool {
	if c.heard != nil && len(c.heard) >= max(min(known-len(c.failed), enough), 1) {
		c.heard = nil
	}
	return c.heard == nil
}

// leaveAlone has nobody talk to a node for a minute. It is false if that was so.
func (c *chooser) leaveAlone(node string, now time.Time) bool {
	was := c.isAlone(node, now)
	for old, until := range c.alone {
		if !now.Before(until) {
			delete(c.alone, old)
		}
	}
	c.alone[node] = now.Add(aloneFor)
	return !was
}

func (c *chooser) isAlone(node string, now time.Time) bool { return now.Before(c.alone[node]) }
