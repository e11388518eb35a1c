package gossip

import (
	"cmp"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"regexp"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// DefaultPort is Serf's, for UDP and TCP.
const DefaultPort = 7946

// Config says who this host is and whom to look for.
type Config struct {
	// Name is the node's, unique in the cluster: letters, digits, "-" and ".", at
	// most 128 of them. Required.
	Name string
	// Bind is what to listen on, UDP and TCP. Zero: every address of the family
	// of Advertise, and its port.
	Bind netip.AddrPort
	// Advertise is where the others reach this host. Zero: the address that the
	// default route uses, and Bind's port or DefaultPort. It is looked up once:
	// a host whose address changes starts anew.
	Advertise netip.AddrPort
	// Keys encrypt what is said (AES; 16, 24 or 32 bytes each): the first is in
	// use, the others are trusted. At least one.
	Keys [][]byte
	// Join is where others may be: host, host:port, addresses of either family.
	// Names are looked up at each try. This host itself may be among them.
	Join []string
	// Tags are what the others see of this host at once; they share 512 bytes.
	Tags map[string]string
	// Snapshot is the file in which the other members are remembered over
	// restarts, below /var/lib/shoal. Empty: nowhere.
	Snapshot string
	// Admit says whether a host may be a member here: an error says why not, in
	// words for people. It is asked for every member heard of, often, with
	// Serf's locks held: it must be quick and must not call Gossip. Nil: all.
	Admit func(Member) error
	// Timers: zero values are Serf's for a LAN.
	Timers Timers
	// Now and Log default to time.Now and slog.Default.
	Now func() time.Time
	Log *slog.Logger
	// Transport replaces sockets, for simulations. It needs Advertise.
	Transport memberlist.NodeAwareTransport
}

// Timers are how fast members are heard of, suspected and given up. A host that
// dies is probed within ProbeInterval, suspected ProbeInterval later, and failed
// after SuspicionMult * max(1, log10(members)) * ProbeInterval at the earliest,
// six times that at the latest (Lifeguard: the fewer confirm it, the later).
type Timers struct {
	ProbeInterval time.Duration // one member is probed; 1 s
	ProbeTimeout  time.Duration // until others are asked to probe it; 500 ms
	SuspicionMult int           // see above; 4
	Gossip        time.Duration // between packets with what changed, to three members; 200 ms
	PushPull      time.Duration // between full exchanges with one member; 30 s, more above 32 members
	Reconnect     time.Duration // between tries to reach a failed member; 30 s
	Forget        time.Duration // until a member that failed or left is dropped from the list; 24 h
	Reclaim       time.Duration // until a failed member's name may come back from another address; 10 s, and 30 s is the most: memberlist forgets the old one then
	Rejoin        time.Duration // between tries to reach an address of Join that is no member's; 60 s
}

// DefaultTimers are Serf's for a LAN, and ours where Serf has none.
func DefaultTimers() Timers {
	return Timers{
		ProbeInterval: time.Second, ProbeTimeout: 500 * time.Millisecond, SuspicionMult: 4,
		Gossip: 200 * time.Millisecond, PushPull: 30 * time.Second, Reconnect: 30 * time.Second,
		Forget: 24 * time.Hour, Reclaim: 10 * time.Second, Rejoin: time.Minute,
	}
}

func (t Timers) withDefaults() Timers {
	d := DefaultTimers()
	return Timers{
		ProbeInterval: cmp.Or(t.ProbeInterval, d.ProbeInterval), ProbeTimeout: cmp.Or(t.ProbeTimeout, d.ProbeTimeout),
		SuspicionMult: cmp.Or(t.SuspicionMult, d.SuspicionMult), Gossip: cmp.Or(t.Gossip, d.Gossip),
		PushPull: cmp.Or(t.PushPull, d.PushPull), Reconnect: cmp.Or(t.Reconnect, d.Reconnect),
		Forget: cmp.Or(t.Forget, d.Forget), Reclaim: cmp.Or(t.Reclaim, d.Reclaim), Rejoin: cmp.Or(t.Rejoin, d.Rejoin),
	}
}

// check refuses what would spin or never decide.
func (t Timers) check() error {
	for _, d := range []struct {
		name string
		is   time.Duration
	}{
		{"ProbeInterval", t.ProbeInterval}, {"ProbeTimeout", t.ProbeTimeout}, {"Gossip", t.Gossip}, {"PushPull", t.PushPull},
		{"Reconnect", t.Reconnect}, {"Forget", t.Forget}, {"Reclaim", t.Reclaim}, {"Rejoin", t.Rejoin},
	} {
		if d.is < 10*time.Millisecond {
			return fmt.Errorf("gossip: timer %s is %s: want at least 10ms, or 0 for the default", d.name, d.is)
		}
	}
	if t.SuspicionMult < 3 {
		return fmt.Errorf("gossip: timer SuspicionMult is %d: want at least 3 (below, nobody's confirmation counts), or 0 for the default", t.SuspicionMult)
	}
	if t.ProbeTimeout >= t.ProbeInterval {
		return fmt.Errorf("gossip: timer ProbeTimeout is %s: want less than ProbeInterval (%s)", t.ProbeTimeout, t.ProbeInterval)
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.Timers = c.Timers.withDefaults()
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Admit == nil {
		c.Admit = func(Member) error { return nil }
	}
	return c
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9.-]{1,128}$`)

func (c Config) check() error {
	if !nodeName.MatchString(c.Name) {
		return fmt.Errorf("gossip: the node's name %q: want 1 to 128 letters, digits, '-' and '.'", c.Name)
	}
	if c.Transport != nil && !c.Advertise.IsValid() {
		return errors.New("gossip: a transport of one's own needs an address to advertise")
	}
	for _, entry := range c.Join {
		if _, _, err := splitJoin(entry); err != nil {
			return err
		}
	}
	if err := c.Timers.check(); err != nil {
		return err
	}
	return checkTags(c.Tags)
}

// serfConfig is Serf's for a LAN, with what we decided otherwise.
func (c Config) serfConfig(at netip.AddrPort, keys *memberlist.Keyring, library *log.Logger) *serf.Config {
	m := memberlist.DefaultLANConfig()
	m.AdvertiseAddr, m.AdvertisePort, m.BindPort = at.Addr().String(), int(at.Port()), int(at.Port())
	m.Keyring = keys // packets and streams without one of these keys are dropped
	m.EnableCompression = false
	m.LogOutput, m.Logger = nil, library
	m.ProbeInterval, m.ProbeTimeout, m.SuspicionMult = c.Timers.ProbeInterval, c.Timers.ProbeTimeout, c.Timers.SuspicionMult
	m.GossipInterval, m.PushPullInterval = c.Timers.Gossip, c.Timers.PushPull
	m.DeadNodeReclaimTime = c.Timers.Reclaim

	s := serf.DefaultConfig()
	s.NodeName, s.Tags, s.MemberlistConfig = c.Name, copyTags(c.Tags), m
	s.LogOutput, s.Logger = nil, library
	s.ReconnectInterval, s.ReconnectTimeout, s.TombstoneTimeout = c.Timers.Reconnect, c.Timers.Forget, c.Timers.Forget
	s.UserEventSizeLimit = serf.UserEventSizeLimit // Send holds the real limit
	s.DisableCoordinates = true                    // nothing here asks how far a member is
	s.ValidateNodeNames = true
	s.MsgpackUseNewTimeFormat = true
	// Serf's resolution shuts the loser down, and of two members always one.
	s.EnableNameConflictResolution = false
	// Serf's snapshot forgets members that fail: after an outage of all hosts
	// nobody would know anybody. See peers.go.
	s.SnapshotPath = ""
	return s
}
