// Package tenure is what a host's daemon and its lease process tell each other,
// over a unix socket that only root may use. The lease process serves it
// (daemon/warden); it outlives the daemon, and goes on with what it was told last.
package tenure

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/shoal-project/shoal/daemon/gate"
	"github.com/shoal-project/shoal/daemon/lease"
)

// Socket is where the lease process listens. HTTP/1.1, JSON.
const Socket = "/run/shoal/lease.sock"

// The paths on the socket. Each takes a POST.
const (
	PathTell    = "/tell"    // Tell -> Standing
	PathClaim   = "/claim"   // lease.Command -> lease.Outcome
	PathReport  = "/report"  // nothing -> Report
	PathLeave   = "/leave"   // nothing -> nothing: this host gives up its seat
	PathRecover = "/recover" // nothing -> nothing: see witness.Recover
)

// Host is who this host is and who the others are. The lease process keeps it on
// the disk: as a witness it is needed before the daemon of its host is up.
type Host struct {
	Node string `json:"node"`
	// Identity is the directory of the node's key.
	Identity string `json:"identity"`
	// KeyFile holds the cluster's keys; "": this host is by itself, and nothing
	// listens on the network.
	KeyFile string `json:"keyFile,omitempty"`
	// Listen is the address and port for other hosts' lease processes.
	Listen string `json:"listen,omitempty"`
	// Joins is that the configuration names others to join: the host begins no
	// witnesses of its own.
	Joins bool `json:"joins,omitempty"`
	// Expect is bootstrap_expect.
	Expect int `json:"expect,omitempty"`
	// Members are all that are known, this host among them.
	Members []Member `json:"members"`
}

// Member is a host of the cluster.
type Member struct {
	Name    string `json:"name"`
	Address string `json:"address,omitempty"` // of its lease process, host:port; "": not known
	Key     []byte `json:"key,omitempty"`     // the public key that it is known by
	Zone    string `json:"zone,omitempty"`
	Only    bool   `json:"only,omitempty"` // it runs no pods
	Alive   bool   `json:"alive,omitempty"`
	Left    bool   `json:"left,omitempty"` // it said goodbye, or was forgotten
	Witness        // as it announces itself
}

// Witness is what a host is among the witnesses.
type Witness struct {
	// Store names its disk: with a new one it is another witness.
	Store string `json:"store,omitempty"`
	// Log names the witnesses' log that it has; "": none. Those that begin later
	// are larger.
	Log string `json:"log,omitempty"`
	// Seats is how many witnesses that log has, as far as it knows.
	Seats int `json:"seats,omitempty"`
}

// Tell is what the daemon says, again and again: it lives.
type Tell struct {
	// Host is left out while the last Standing had its Sum as Known.
	Host *Host     `json:"host,omitempty"`
	Word gate.Word `json:"word"`
	// Seen is the Version of the last Standing. The answer waits until there is
	// another one, a second at most.
	Seen string `json:"seen,omitempty"`
}

// Standing is the answer.
type Standing struct {
	Version string        `json:"version"`
	Known   string        `json:"known"` // Sum of the Host that was told last
	Lease   gate.Standing `json:"lease"`
	Self    Witness       `json:"self"`
	// Leader is the node whose witness answered last, "" while nobody does.
	Leader string `json:"leader,omitempty"`
	// Witnesses is how many there are, as far as this host knows; 0: not known.
	Witnesses int `json:"witnesses,omitempty"`
	// Problem is why this host has no lease, in words; "" where it has one.
	Problem string `json:"problem,omitempty"`
}

// Report is who holds what, for people.
type Report struct {
	Node    string      `json:"node"`             // who was asked
	Leader  string      `json:"leader,omitempty"` // who says so; "": nobody leads, and what follows may be old
	Term    uint64      `json:"term,omitempty"`
	Log     string      `json:"log,omitempty"`
	Problem string      `json:"problem,omitempty"`
	Seats   []Seat      `json:"witnesses"`
	Nodes   []NodeLease `json:"nodes"`
	Claims  []HeldClaim `json:"claims"`
	Closed  bool        `json:"closed,omitempty"` // after a recovery: nothing is granted yet
}

// Seat is one of the witnesses.
type Seat struct {
	Node    string `json:"node"`
	Store   string `json:"store"`
	Votes   bool   `json:"votes"`
	Leads   bool   `json:"leads,omitempty"`
	Answers bool   `json:"answers"`
}

// NodeLease is a node's latest epoch. Times are RFC 3339, by the leader's wall
// clock, which decides nothing; "" where they are not known.
type NodeLease struct {
	Node  string `json:"node"`
	Epoch uint64 `json:"epoch"`
	Over  bool   `json:"over,omitempty"`
	Since string `json:"since,omitempty"`
	Until string `json:"until,omitempty"` // when the leader would fence it, without a further renewal
}

// HeldClaim is a claim that is in force.
type HeldClaim struct {
	Key    string `json:"key"`
	Node   string `json:"node"`
	Epoch  uint64 `json:"epoch"`
	Token  uint64 `json:"token"`
	Pinned bool   `json:"pinned,omitempty"`
	Since  string `json:"since,omitempty"`
}

// Claim is the wish for a key, or its release. Node is filled in by the lease
// process, but for Forget.
type Claim = lease.Command

// Sum tells one Host from another.
func Sum(h Host) string {
	data, err := json.Marshal(h)
	if err != nil {
		panic(err) // of strings, numbers and bytes
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}
