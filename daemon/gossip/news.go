package gossip

import "fmt"

const (
	// MaxNews is the largest payload that is gossiped. What is larger fits no
	// packet of memberlist's 1,400 bytes once it is encrypted: Serf takes it
	// without an error, and it arrives with full exchanges, a minute later or
	// never.
	MaxNews = 1300
	// MaxNewsName is the longest name with which MaxNews still fits.
	MaxNewsName = 28

	// newsKept is what waits for a reader before the oldest is dropped.
	newsKept = 256
)

// News is something that a member said to all. It may come late, twice after a
// restart, out of order, or never.
type News struct {
	Name    string
	Payload []byte
}

// Send tells all members, this host among them. It does not wait: news that was
// taken may still get lost.
func (g *Gossip) Send(name string, payload []byte) error {
	if name == "" || len(name) > MaxNewsName {
		return fmt.Errorf("gossip: news with a name of %d bytes: want 1 to %d", len(name), MaxNewsName)
	}
	if len(payload) > MaxNews {
		return fmt.Errorf("gossip: news %s of %d bytes: more than %d are not gossiped", name, len(payload), MaxNews)
	}
	if err := g.serf.UserEvent(name, payload, false); err != nil {
		return fmt.Errorf("gossip: news %s: %w", name, err)
	}
	return nil
}

// News is what members said. A reader that is slow loses the oldest, see
// Dropped. The channel is never closed.
func (g *Gossip) News() <-chan News { return g.news }

// Dropped is how much news nobody read in time.
func (g *Gossip) Dropped() uint64 { return g.dropped.Load() }

// receive never waits: Serf does for it.
func (g *Gossip) receive(n News) {
	for {
		select {
		case g.news <- n:
			return
		default:
		}
		select {
		case <-g.news:
			g.dropped.Add(1)
		default: // a reader was faster
		}
	}
}
