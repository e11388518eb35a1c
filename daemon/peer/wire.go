package peer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/record"
)

// The versions of the protocol that this one speaks.
const (
	protocol = 1
	oldest   = 1
)

const (
	path = "/shoal/v1/sync"
	// mostMessage is the size in bytes beyond which a message is not read.
	mostMessage = 8 << 20
	// mostNodes is how many nodes a cluster may have: what others say exist costs
	// memory here.
	mostNodes = 10_000
	// mostClones is how many proofs of clones are kept.
	mostClones = 100
)

// What is said of something takes at least so many bytes of JSON. A list that
// claims to hold more in less is not decoded: `{}` is small on the wire only.
const (
	leastEntry   = 32 // {"name":"s k","stamp":1,"seq":1}
	leastSummary = 16
	leastWant    = 9
	leastAnswer  = 100
	leastClone   = 200
)

// hello begins every message.
type hello struct {
	Protocol int        `json:"protocol"`
	Oldest   int        `json:"oldest"` // what the sender understands at least
	Cluster  cluster.ID `json:"cluster"`
}

// message is both a request and its answer.
type message struct {
	Hello   hello        `json:"hello"`
	Refused string       `json:"refused,omitempty"` // nothing else counts
	Digest  *record.Hash `json:"digest,omitempty"`  // over all that the sender has: what do you have?
	Equal   bool         `json:"equal,omitempty"`   // just that
	Heads   summaries    `json:"heads,omitempty"`   // what the sender has
	Wants   wants        `json:"wants,omitempty"`
	Answers answers      `json:"answers,omitempty"`
	Clashes answers      `json:"clashes,omitempty"` // heads, without entries, that are not the other's of the same moment
	Clones  clones       `json:"clones,omitempty"`
}

// empty says whether there is nothing to send.
func (m *message) empty() bool {
	return len(m.Heads)+len(m.Wants)+len(m.Answers)+len(m.Clashes)+len(m.Clones) == 0
}

// Summary is what a list says of a head. It is not signed: it leads to questions
// alone.
type Summary struct {
	Node        string `json:"n"`
	Incarnation uint64 `json:"i,omitempty"`
	Seq         uint64 `json:"s,omitempty"`
	Mark        mark   `json:"m,omitzero"`
	Cloned      bool   `json:"c,omitempty"` // it is kept out, and the rest is zero
}

// compare orders two of one node.
func (s Summary) compare(other Summary) int { return s.head().Compare(other.head()) }

func (s Summary) head() record.Head {
	return record.Head{Node: s.Node, Incarnation: s.Incarnation, Seq: s.Seq}
}

// mark tells two contents of one moment apart.
type mark [8]byte

// MarshalText makes a mark base64 in JSON.
func (m mark) MarshalText() ([]byte, error) {
	return base64.RawStdEncoding.AppendEncode(nil, m[:]), nil
}

// UnmarshalText is the inverse of MarshalText.
func (m *mark) UnmarshalText(text []byte) error {
	b, err := base64.RawStdEncoding.DecodeString(string(text))
	if err != nil || len(b) != len(m) {
		return fmt.Errorf("a mark of %d characters", len(text))
	}
	copy(m[:], b)
	return nil
}

// Want asks for what the asker lacks of a record.
type Want struct {
	Node        string `json:"n"`
	Incarnation uint64 `json:"i,omitempty"` // what it has
	Seq         uint64 `json:"s,omitempty"`
	Hashes      []byte `json:"h,omitempty"` // of its buckets one after the other, if it is to be compared by these
}

// hashes are the buckets', nil if there are none.
func (w Want) hashes() (*[record.Buckets]record.Hash, error) {
	if len(w.Hashes) == 0 {
		return nil, nil
	}
	var h [record.Buckets]record.Hash
	if len(w.Hashes) != len(h)*len(h[0]) {
		return nil, fmt.Errorf("hashes of %d bytes, want %d", len(w.Hashes), len(h)*len(h[0]))
	}
	for i := range h {
		copy(h[i][:], w.Hashes[i*len(h[0]):])
	}
	return &h, nil
}

func packed(hashes [record.Buckets]record.Hash) []byte {
	b := make([]byte, 0, len(hashes)*len(hashes[0]))
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}

// Answer is what a Want gets, or what is pushed.
type Answer struct {
	Delta record.Delta `json:"delta"`
	Key   []byte       `json:"key"` // the node's (ed25519), for who does not know it yet
	// More says that the delta is a part of what was asked for, by bucket: ask
	// again with the hashes of what you have then.
	More bool `json:"more,omitempty"`
}

// UnmarshalJSON bounds what the entries take in memory.
func (a *Answer) UnmarshalJSON(data []byte) error {
	var w struct {
		Delta struct {
			record.Delta
			Entries entries `json:"entries"`
		} `json:"delta"`
		Key  []byte `json:"key"`
		More bool   `json:"more"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*a = Answer{w.Delta.Delta, w.Key, w.More}
	a.Delta.Entries = w.Delta.Entries
	return nil
}

// Clone proves that two hosts use one node's name and key: two heads of one
// moment, both signed.
type Clone struct {
	A   record.Head `json:"a"`
	B   record.Head `json:"b"`
	Key []byte      `json:"key"`
}

type (
	summaries []Summary
	wants     []Want
	answers   []Answer
	clones    []Clone
	entries   []record.Entry
)

func (l *summaries) UnmarshalJSON(b []byte) error { return bounded(l, b, mostNodes, leastSummary) }
func (l *wants) UnmarshalJSON(b []byte) error     { return bounded(l, b, mostNodes, leastWant) }
func (l *answers) UnmarshalJSON(b []byte) error   { return bounded(l, b, mostNodes, leastAnswer) }
func (l *clones) UnmarshalJSON(b []byte) error    { return bounded(l, b, mostClones, leastClone) }
func (l *entries) UnmarshalJSON(b []byte) error {
	return bounded(l, b, mostMessage/leastEntry, leastEntry)
}

// errBroken says that somebody does not keep to the protocol.
var errBroken = errors.New("it does not keep to the protocol")

// bounded decodes a list of at most so many elements, each of at least so many
// bytes.
func bounded[L ~[]T, T any](list *L, data []byte, most, least int) error {
	*list = nil
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return fmt.Errorf("want a list: %w", errBroken)
	}
	for dec.More() {
		if len(*list) == most {
			return fmt.Errorf("a list of more than %d: %w", most, errBroken)
		}
		var element T
		if err := dec.Decode(&element); err != nil {
			return err
		}
		*list = append(*list, element)
		if int(dec.InputOffset()) < len(*list)*least {
			return fmt.Errorf("a list of elements that are none: %w", errBroken)
		}
	}
	return nil
}

// encode is the message's JSON.
func encode(m *message) ([]byte, error) {
	b, err := json.Marshal(m)
	if err == nil && len(b) > mostMessage {
		err = fmt.Errorf("a message of %d bytes, at most %d can be sent", len(b), mostMessage)
	}
	return b, err
}

// decode reads a message that is known not to be too large.
func decode(b []byte) (*message, error) {
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		if errors.Is(err, errBroken) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	return &m, nil
}
