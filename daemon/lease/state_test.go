package lease

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func register(node, session string) Command {
	return Command{Do: Register, Node: node, Session: session, Lease: Default.Lease}
}

func acquire(node string, epoch, try uint64) Command {
	return Command{Do: Acquire, Node: node, Epoch: epoch, Key: "k", Try: try}
}

func TestClaimsAreComparedAndSet(t *testing.T) {
	pinned := acquire("a", 1, 1)
	pinned.Pinned = true
	again := acquire("a", 4, 1)
	again.Pinned = true
	release := Command{Do: Release, Node: "a", Epoch: 1, Key: "k", Token: 3}
	fence := Command{Do: Fence, Node: "a", Epoch: 1, Term: 7}
	start := []Command{register("a", "s1"), register("b", "s2")} // epochs 1 and 2
	tests := []struct {
		name string
		log  []Command
		want Outcome // of the last one
	}{
		{"a free one is granted", []Command{acquire("a", 1, 1)}, Outcome{Holder: Claim{Node: "a", Epoch: 1, Token: 3, Try: 1}}},
		{"one that came twice is granted once", []Command{acquire("a", 1, 1), acquire("a", 1, 1)}, Outcome{Holder: Claim{Node: "a", Epoch: 1, Token: 3, Try: 1}}},
		{"a newer wish of the holder has a token of its own", []Command{acquire("a", 1, 1), acquire("a", 1, 2)}, Outcome{Holder: Claim{Node: "a", Epoch: 1, Token: 4, Try: 2}}},
		{"an older wish of the holder comes too late", []Command{acquire("a", 1, 2), acquire("a", 1, 1)}, Outcome{Refused: Late, Holder: Claim{Node: "a", Epoch: 1, Token: 3, Try: 2}}},
		{"a held one is refused", []Command{acquire("a", 1, 1), acquire("b", 2, 1)}, Outcome{Refused: Held, Holder: Claim{Node: "a", Epoch: 1, Token: 3, Try: 1}}},
		{"a released one is granted", []Command{acquire("a", 1, 1), release, acquire("b", 2, 1)}, Outcome{Holder: Claim{Node: "b", Epoch: 2, Token: 4, Try: 1}}},
		{"a wish that comes after its release is too late", []Command{acquire("a", 1, 1), release, acquire("a", 1, 1)}, Outcome{Refused: Late, Holder: Claim{Node: "a", Epoch: 1, Token: 3, Try: 1, Free: true}}},
		{"a release of an older token is too late", []Command{acquire("a", 1, 1), acquire("a", 1, 2), release}, Outcome{Refused: Late}},
		{"one of a fenced node is granted", []Command{acquire("a", 1, 1), fence, acquire("b", 2, 1)}, Outcome{Holder: Claim{Node: "b", Epoch: 2, Token: 4, Try: 1}}},
		{"a fenced node gets none", []Command{fence, acquire("a", 1, 1)}, Outcome{Refused: Over}},
		{"a node with another epoch gets none", []Command{acquire("a", 2, 1)}, Outcome{Refused: Over}},
		{"a pinned one is not taken from a fenced node", []Command{pinned, fence, acquire("b", 2, 1)}, Outcome{Refused: Held, Holder: Claim{Node: "a", Epoch: 1, Token: 3, Try: 1, Pinned: true}}},
		{"a pinned one stays with its token", []Command{pinned, fence, register("a", "s3"), again}, Outcome{Holder: Claim{Node: "a", Epoch: 4, Token: 3, Try: 1, Pinned: true}}},
		{"a pinned one is not unpinned while it is held", []Command{pinned, acquire("a", 1, 2)}, Outcome{Refused: Held, Holder: Claim{Node: "a", Epoch: 1, Token: 3, Try: 1, Pinned: true}}},
		{"a pinned one of a node that was forgotten is granted", []Command{pinned, fence, {Do: Forget, Node: "a"}, acquire("b", 2, 1)}, Outcome{Holder: Claim{Node: "b", Epoch: 2, Token: 4, Try: 1}}},
		{"a node that has a lease is not forgotten", []Command{{Do: Forget, Node: "a"}}, Outcome{Refused: Alive}},
		{"an epoch stays with its session", []Command{register("a", "s1")}, Outcome{Epoch: Epoch{Number: 1, Session: "s1", Lease: Default.Lease}}},
		{"another session waits", []Command{register("a", "s9")}, Outcome{Refused: OtherSession}},
		{"another session follows a fence", []Command{fence, register("a", "s9")}, Outcome{Epoch: Epoch{Number: 3, Session: "s9", Lease: Default.Lease}}},
		{"another session follows a resignation", []Command{{Do: Resign, Node: "a", Epoch: 1}, register("a", "s9")}, Outcome{Epoch: Epoch{Number: 3, Session: "s9", Lease: Default.Lease}}},
		{"a fence of another term is too late", []Command{{Do: Fence, Node: "a", Epoch: 1, Term: 6}}, Outcome{Refused: Late}},
		{"a fence of another epoch is none", []Command{{Do: Fence, Node: "a", Epoch: 2, Term: 7}}, Outcome{Refused: Over}},
		{"what is unknown is refused", []Command{{Do: "explode"}}, Outcome{Refused: Wrong}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := NewState()
			var got Outcome
			for _, c := range append(start[:len(start):len(start)], test.log...) {
				got = s.Apply(7, c)
			}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestARecoveryGrantsNothingUntilItIsOpened(t *testing.T) {
	s := NewState()
	s.Apply(1, register("a", "s1"))
	s.Apply(1, acquire("a", 1, 1))
	s.Recover()
	if got := s.Apply(2, acquire("a", 1, 2)); got.Refused != Over {
		t.Errorf("a claim at an epoch of before: %+v", got)
	}
	if got := s.Apply(2, register("a", "s1")); got.Refused != Shut {
		t.Errorf("a registration: %+v", got)
	}
	if got := s.Apply(2, Command{Do: Open, Term: 1}); got.Refused != Late {
		t.Errorf("opened by a leader of before: %+v", got)
	}
	s.Apply(2, Command{Do: Open, Term: 2})
	if got := s.Apply(2, register("b", "s2")); got.Refused != Granted || got.Epoch.Number <= recoverSkip {
		t.Errorf("a registration after it was opened: %+v", got)
	}
}

func TestALeaderWaitsALeaseAndNoLonger(t *testing.T) {
	s := NewState()
	s.Apply(1, register("a", "s1"))
	l := Lead(Default, 1, 100*time.Second)
	end := 100*time.Second + 15*time.Second + 300*time.Millisecond
	if due, again := l.Due(s, end-1); len(due) != 0 || again != end {
		t.Errorf("before: %v, again at %v", due, again)
	}
	if due, _ := l.Due(s, end); !reflect.DeepEqual(due, []Command{{Do: Fence, Node: "a", Epoch: 1, Term: 1}}) {
		t.Errorf("at the end: %v", due)
	}
	if a := l.Renew(s, Renewal{Node: "a", Session: "s1", Epoch: 1}, end); a.Refused != Over {
		t.Errorf("renewed after its fence was proposed: %+v", a)
	}
}

func TestADaemonThatStaysSilentHandsItsWorkOver(t *testing.T) {
	now := time.Hour
	b := Default
	n := NewNode(&b, "a", "s1", now)
	at := func(d time.Duration, populated, frozen bool) Sight {
		return Sight{Now: now + d, Populated: populated, Frozen: frozen, Daemon: now, Cleared: now}
	}
	n, w := n.Look(at(0, false, true))
	if w.Send == nil || w.Send.Do != Register || !w.Shut {
		t.Fatalf("at first: %+v", w)
	}
	n = n.Sent(*w.Send).Hear(Register, Answer{Session: "s1", Sent: now, Epoch: 5, Lease: b.Lease}, at(0, false, true))
	for d := time.Duration(0); d < b.Grace; d += b.Renew {
		if n, w = n.Look(at(d, true, false)); w.Epoch != 5 || w.StopPods || w.Shut {
			t.Fatalf("after %v: %+v", d, w)
		}
		if w.Send != nil {
			n = n.Sent(*w.Send).Hear("", Answer{Session: "s1", Sent: now + d, Epoch: 5, Lease: b.Lease}, at(d, true, false))
		}
	}
	if n, w = n.Look(at(b.Grace, true, false)); !w.StopPods || w.Epoch != 0 || w.Shut {
		t.Fatalf("after the grace period: %+v", w)
	}
	if n, w = n.Look(at(b.Grace+b.Renew, false, false)); !w.Shut || w.Send != nil {
		t.Fatalf("stopped, not frozen yet: %+v", w)
	}
	if n, w = n.Look(at(b.Grace+b.Renew, false, true)); w.Send == nil || w.Send.Do != Resign || w.Send.Epoch != 5 {
		t.Fatalf("frozen: %+v", w)
	}
	n = n.Hear(Resign, Answer{Session: "s1", Epoch: 5}, at(b.Grace+2*b.Renew, false, true))
	if _, w = n.Look(at(b.Grace+3*b.Renew, false, true)); w.Send != nil || w.Loss == now {
		t.Errorf("registers while the daemon is silent: %+v", w)
	}
}

func TestSnapshotsAndCommandsSurviveARoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewState()
		name := rapid.SampledFrom([]string{"a", "b"})
		number := rapid.Uint64Range(1, 6)
		for range rapid.IntRange(0, 20).Draw(t, "commands") {
			c := Command{
				Do:   rapid.SampledFrom([]Verb{Register, Resign, Fence, Acquire, Release, Forget, Open}).Draw(t, "verb"),
				Node: name.Draw(t, "node"), Session: name.Draw(t, "session"), Epoch: number.Draw(t, "epoch"), Lease: Default.Lease,
				Key: name.Draw(t, "key"), Token: number.Draw(t, "token"), Try: number.Draw(t, "try"), Pinned: rapid.Bool().Draw(t, "pinned"),
				Term: number.Draw(t, "term"),
			}
			data, err := MarshalCommand(c)
			if err != nil {
				t.Fatal(err)
			}
			got, err := UnmarshalCommand(data)
			if err != nil || got != c {
				t.Fatalf("got %+v, %v, want %+v", got, err, c)
			}
			before := s.Clone()
			count := s.Count
			out := s.Apply(3, got)
			if out != before.Apply(3, c) || !reflect.DeepEqual(s, before) {
				t.Fatal("one command made two states of one")
			}
			if out.Refused != Granted && !reflect.DeepEqual(s.Count, count) {
				t.Fatal("a refusal changed something")
			}
		}
		data, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Unmarshal(data); err != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("got %+v, %v, want %+v", got, err, s)
		}
	})
}

func TestWhatANewerVersionWroteIsRefused(t *testing.T) {
	for _, data := range []string{`{"format":2,"state":{}}`, `{"format":0}`, `{"format":1}`[:11], `nonsense`, `{"format":1,"state":null}`, `{"format":1,"state":{"epochs":null}}`} {
		if _, err := Unmarshal([]byte(data)); err == nil {
			t.Errorf("read %s", data)
		}
	}
	for _, data := range []string{`{"format":2,"do":"open","term":1}`, `{"format":1,"do":"explode"}`, `{"format":1,"do":"acquire","node":"a"}`} {
		if _, err := UnmarshalCommand([]byte(data)); err == nil {
			t.Errorf("read %s", data)
		}
	}
	long := register(strings.Repeat("a", maxName+1), "s")
	if _, err := MarshalCommand(long); err == nil {
		t.Error("wrote a name without bounds")
	}
	for _, lease := range []time.Duration{0, Shortest - 1, Longest + 1} {
		c := register("a", "s")
		c.Lease = lease
		if _, err := MarshalCommand(c); err == nil {
			t.Errorf("wrote a lease of %v", lease)
		}
	}
}

func TestSnapshotsOfReleasedFormatsAreRead(t *testing.T) {
	data, err := os.ReadFile("testdata/format1.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unmarshal(data)
	want := &State{Count: 5, Epochs: map[string]Epoch{
		"a": {Number: 1, Session: "s1", Lease: 15 * time.Second, Over: true}, "b": {Number: 2, Session: "s2", Lease: 15 * time.Second},
	}, Claims: map[string]Claim{
		"pod/default/db-0": {Node: "a", Epoch: 1, Token: 3, Try: 9, Pinned: true}, "pod/default/db-1": {Node: "b", Epoch: 2, Token: 5, Try: 1, Free: true},
	}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestBudgets(t *testing.T) {
	if err := Default.Check(); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*Budget){
		func(b *Budget) { b.Lease = 13 * time.Second }, func(b *Budget) { b.Renew = 6 * time.Second }, func(b *Budget) { b.Kill = 0 },
	} {
		b := Default
		if change(&b); b.Check() == nil {
			t.Errorf("accepted %+v", b)
		}
	}
}
