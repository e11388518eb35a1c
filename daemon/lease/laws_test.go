package lease

import (
	"flag"
	"testing"
)

var deep = flag.Bool("deep", false, "search the model with larger bounds: some minutes and gigabytes")

// scenario is a corner of what can happen that is searched whole.
type scenario struct {
	name   string
	bounds bounds
	start  start
	clocks [4]int // in percent: of the hosts, of the leaders, and the drift that the budget allows for
}

// start is how a search begins.
type start int

const (
	running start = iota // host 0 has the claim, and its pod runs
	claimed              // host 0 has the claim
	nothing
	cloned    // running, and host 1 has the name of host 0
	forgetful // running, and there is a witness that knows of nothing
)

var (
	one, two, take = [2]int8{1, 1}, [2]int8{2, 1}, [2]int8{0, 1}
	equal          = [4]int{100, 100, 100, 0}

	scenarios = []scenario{
		{"messages that are lost and come late", bounds{ticks: 7, sends: two, claims: take}, running, equal},
		{"renewals", bounds{ticks: 6, sends: two, claims: take}, running, equal},
		{"releases and claims that come twice", bounds{ticks: 1, sends: one, claims: [2]int8{2, 1}, stops: 1, dups: 1}, nothing, equal},
		{"another leader", bounds{ticks: 6, sends: one, claims: take, elections: 1}, running, equal},
		{"leaders that take turns", bounds{ticks: 5, sends: one, claims: take, elections: 2}, running, equal},
		{"a lease process that hangs", bounds{ticks: 6, sends: one, claims: take, pauses: 1}, running, equal},
		{"a reboot", bounds{ticks: 6, sends: one, claims: take, reboots: 1}, running, equal},
		{"a pod whose start takes long", bounds{ticks: 6, sends: one, claims: one, flights: 1}, claimed, equal},
		{"work that is handed over", bounds{ticks: 5, sends: two, claims: take, handovers: 1}, running, equal},
		{"a clone", bounds{ticks: 6, sends: two, claims: take}, cloned, equal},
		{"witnesses that were recovered", bounds{ticks: 5, sends: one, claims: take, recovers: 1}, running, equal},
		{"a witness that knows nothing", bounds{ticks: 6, sends: one, claims: one, recovers: 1}, forgetful, equal},
		{"work that is handed over and taken back", bounds{ticks: 1, sends: two, claims: one, handovers: 2, dups: 1}, nothing, equal},
		{"a slow clock and a fast one", bounds{ticks: 6, sends: one, claims: take, pauses: 1}, running, [4]int{100, 100, 150, 50}},
	}
)

func (s scenario) begin(t *testing.T, f fault) (*model, world) {
	t.Helper()
	b := s.bounds
	b.victims, b.slow = 1, 1
	m := newModel(f, b).set(s.clocks[0], s.clocks[1], s.clocks[2], s.clocks[3])
	if s.start == cloned {
		m.names[1] = m.names[0]
	}
	w := m.begin()
	if s.start == nothing {
		return m, w
	}
	w = m.granted(t, w)
	if s.start != claimed {
		h := *w.hosts[0]
		h.pod = pod{h.know.Epoch, h.know.Token}
		w.hosts[0], w.tokens = m.canonHost(h), h.know.Token
	}
	if s.start == forgetful {
		w.old = m.canonState(NewState())
	}
	return m, w
}

func TestNoTwoEverWriteAtOnce(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			most := 400_000
			if *deep {
				s.bounds.ticks++
				s.bounds.sends[0]++
				most = 20_000_000
			}
			m, w := s.begin(t, none)
			found, seen, all := m.search(w, most, nil)
			if found != nil {
				t.Fatal(found)
			}
			if !all {
				t.Errorf("gave up after %d worlds: lower the bounds", seen)
			}
			t.Logf("%d worlds", seen)
		})
	}
}

// mutants are the protocol with one thing left out, and where that shows. What
// the search doesn't find in them, it would not find in ours.
var mutants = map[fault]string{
	noWait:          "another leader",
	noBarrier:       "another leader",
	noConfirm:       "another leader",
	oldTermFence:    "leaders that take turns",
	renewsFenced:    "renewals",
	fromReception:   "messages that are lost and come late",
	shortLease:      "a lease process that hangs",
	noDrift:         "a slow clock and a fast one",
	noWatchdog:      "a lease process that hangs",
	noKill:          "messages that are lost and come late",
	noFreeze:        "a pod whose start takes long",
	noClear:         "a pod whose start takes long",
	resignsEarly:    "work that is handed over",
	anySession:      "a clone",
	anyToken:        "releases and claims that come twice",
	releasesEarly:   "releases and claims that come twice",
	heldAgain:       "releases and claims that come twice",
	tryIgnored:      "releases and claims that come twice",
	takesHeld:       "messages that are lost and come late",
	lostDisk:        "witnesses that were recovered",
	recoversAtOnce:  "witnesses that were recovered",
	recoversNumbers: "a witness that knows nothing",
	loseLateAnswers: "work that is handed over and taken back",
	pausedMachine:   "a lease process that hangs",
}

func TestTheSearchFindsEachPlantedFault(t *testing.T) {
	for f, where := range mutants {
		t.Run(string(f), func(t *testing.T) {
			for _, s := range scenarios {
				if s.name != where {
					continue
				}
				m, w := s.begin(t, f)
				found, seen, _ := m.search(w, 400_000, nil)
				if found == nil {
					t.Fatalf("not found in %d worlds", seen)
				}
				t.Logf("after %d worlds, %s", seen, found)
			}
		})
	}
}

// From wherever failures have led, somebody gets to work once they end.
func TestSomebodyGetsToWorkOnceFailuresEnd(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			m, w := s.begin(t, none)
			most := 6_000
			switch {
			case *deep:
				most = 1_000_000
			case testing.Short():
				most = 1_500
			}
			n := 0
			bounds := m.bounds
			m.search(w, most, func(w world) {
				if n++; n%97 != 0 || t.Failed() {
					return
				}
				// A lease that nobody renews, a recovery, and a lease again.
				if last, ok := m.fair(w, 12, 0, 1); !ok {
					t.Errorf("nobody works after 12 ticks, from %+v to %+v, log %+v, hosts %+v %+v", *w.committed, *last.committed, *last.log, *last.hosts[0], *last.hosts[1])
				}
				m.bounds = bounds
			})
		})
	}
}
