package dnsd

import (
	"maps"
	"sync"

	"github.com/miekg/dns"
)

// Query is a kind of answer: who gave it, and its response code as "NOERROR".
type Query struct{ Source, Code string }

// Who gives answers.
const (
	fromZone    = "zone"    // the cluster's own names
	fromForward = "forward" // the host's resolvers, or what they said before
	fromSearch  = "search"  // a name further on in a pod's search list, the zone's or forwarded
	fromNobody  = "refused" // it was not a question, or not one for us
)

// tally counts answers. Its zero value is ready.
type tally struct {
	mu     sync.Mutex
	counts map[tallied]uint64
}

type tallied struct {
	source string
	code   int
}

func (t *tally) add(source string, code int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = make(map[tallied]uint64)
	}
	t.counts[tallied{source, code}]++
}

// Queries counts the answers given since the server was made.
func (s *Server) Queries() map[Query]uint64 {
	s.tally.mu.Lock()
	counts := maps.Clone(s.tally.counts)
	s.tally.mu.Unlock()
	named := make(map[Query]uint64)
	for t, n := range counts {
		code, known := dns.RcodeToString[t.code]
		if !known {
			code = "other"
		}
		named[Query{t.source, code}] += n
	}
	return named
}
