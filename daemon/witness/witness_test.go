package witness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/lease"
)

func claim(node string, epoch, try uint64) lease.Command {
	return lease.Command{Do: lease.Acquire, Node: node, Epoch: epoch, Key: "pod/default/db-0", Try: try}
}

func TestALeaseOutlivesTheLeaderThatGaveIt(t *testing.T) {
	for _, n := range []int{3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			b := newBed(t, n)
			a := b.register("a", "s1")
			if got := b.do(claim("a", a.Epoch, 1)); got.Refused != lease.Granted {
				t.Fatalf("a free claim: %+v", got)
			}
			other := b.register("b", "s2")

			old := b.leader()
			b.nets[old].isolate(true)
			b.advance(shortBudget.Lease - time.Second)
			next := b.leader(old)
			// The old leader may still believe that it leads: nobody confirms it.
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if got, err := b.wits[old].Ask(ctx, lease.Request{Renewal: lease.Renewal{Node: "a", Session: "s1", Epoch: a.Epoch}}); err == nil {
				t.Errorf("a leader that was cut off renewed: %+v", got)
			}
			// The new one has not heard of a since, and waits for a lease of its own.
			b.advance(shortBudget.Lease)
			if got, err := b.wits[next].Do(claim("b", other.Epoch, 1)); err != nil || got.Refused != lease.Held {
				t.Errorf("taken from a lease that may run: %+v, %v", got, err)
			}
			b.nets[old].isolate(false)
			if got := b.renew("b", "s2", other.Epoch); got.Refused != lease.Granted {
				t.Errorf("renewal of b: %+v", got)
			}
			b.advance(shortBudget.Lease / 2)
			b.eventually("a takeover once the lease ran out", func() error {
				if got := b.do(claim("b", other.Epoch, 2)); got.Refused != lease.Granted || got.Holder.Token <= a.Epoch+1 {
					return fmt.Errorf("%+v", got)
				}
				return nil
			})
			if got := b.renew("a", "s1", a.Epoch); got.Refused != lease.Over {
				t.Errorf("a fenced epoch was renewed: %+v", got)
			}
		})
	}
}

func TestALeaderThatIsCutOffRenewsNothing(t *testing.T) {
	b := newBed(t, 3)
	a := b.register("a", "s1")
	old := b.leader()
	b.nets[old].isolate(true) // it does not know yet that it has lost its followers
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if got, err := b.wits[old].Ask(ctx, lease.Request{Renewal: lease.Renewal{Node: "a", Session: "s1", Epoch: a.Epoch}}); err == nil {
		t.Errorf("renewed without a majority: %+v", got)
	}
}

func TestAWitnessWithANewDiskIsANewVoter(t *testing.T) {
	b := newBed(t, 3)
	a := b.register("a", "s1")
	want := b.do(claim("a", a.Epoch, 1))
	lead := b.leader()
	lost, kept := (lead+1)%3, (lead+2)%3
	b.stop(lost)

	fresh := b.place()
	b.start(fresh)
	b.eventually("a new voter", func() error {
		return b.wits[b.leader()].Add(Server{ID: b.id(fresh), Address: b.nets[fresh].Addr().String()}, 5*time.Second)
	})
	b.eventually("the old one's vote gone", func() error { return b.wits[b.leader()].Remove(b.id(lost), 5*time.Second) })
	b.stop(kept) // two of three: the new one is needed
	if got := b.do(claim("a", a.Epoch, 1)); got != want {
		t.Errorf("the claim is %+v, want %+v", got, want)
	}
	b.eventually("the new one knows all", func() (err error) {
		b.wits[fresh].State(func(s *lease.State) {
			if got, held := s.Holder("pod/default/db-0"); !held || got != want.Holder {
				err = fmt.Errorf("it knows %+v", got)
			}
		})
		return err
	})
}

func TestNothingIsGrantedWithoutAMajorityUntilAPersonRecovers(t *testing.T) {
	b := newBed(t, 3)
	a := b.register("a", "s1")
	b.do(claim("a", a.Epoch, 1))
	last := b.leader()
	b.eventually("all know the claim", func() (err error) {
		for _, w := range b.wits {
			w.State(func(s *lease.State) {
				if !s.Held() {
					err = errors.New("not yet")
				}
			})
		}
		return err
	})
	b.stop((last + 1) % 3)
	b.stop((last + 2) % 3)
	b.eventually("the last one to see that it is alone", func() error {
		if b.wits[last].leading() != nil {
			return errors.New("it leads")
		}
		return nil
	})
	if _, err := b.wits[last].Do(claim("a", a.Epoch, 2)); err == nil {
		t.Error("granted without a majority")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := b.wits[last].Ask(ctx, lease.Request{Renewal: lease.Renewal{Node: "a", Session: "s1", Epoch: a.Epoch}}); !errors.As(err, new(NotLeading)) {
		t.Errorf("renewed without a majority: %v", err)
	}

	b.stop(last)
	b.listen(last)
	if err := Recover(b.config(last)); err != nil {
		t.Fatal(err)
	}
	b.listen(last)
	b.start(last)
	if got := b.renew("a", "s1", a.Epoch); got.Refused != lease.Over {
		t.Errorf("an epoch of before was renewed: %+v", got)
	}
	if got := b.register("a", "s1"); got.Refused != lease.Shut {
		t.Errorf("registered before leases that nobody knows of ran out: %+v", got)
	}
	b.advance(lease.Longest * 11 / 10)
	b.eventually("registrations", func() error {
		if got := b.register("a", "s1"); got.Refused != lease.Granted || got.Epoch < 1<<32 {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
}

func TestALoneWitnessKeepsWhatItGrantedOverARestartAndGrows(t *testing.T) {
	b := newBed(t, 1)
	a := b.register("a", "s1")
	want := b.do(claim("a", a.Epoch, 1))
	b.stop(0)
	b.listen(0)
	b.start(0)
	if got := b.do(claim("a", a.Epoch, 1)); got != want {
		t.Errorf("after a restart the claim is %+v, want %+v", got, want)
	}
	for i := 1; i < 5; i++ {
		b.place()
		b.start(i)
		b.eventually("one more", func() error {
			return b.wits[b.leader()].Add(Server{ID: b.id(i), Address: b.nets[i].Addr().String()}, 5*time.Second)
		})
		if got := b.renew("a", "s1", a.Epoch); got.Refused != lease.Granted {
			t.Errorf("with %d witnesses: %+v", i+1, got)
		}
	}
	for i := range 4 { // and back, the first one first
		b.eventually("one less", func() error { return b.wits[b.leader()].Remove(b.id(i), 5*time.Second) })
		b.stop(i)
		if got := b.do(claim("a", a.Epoch, 1)); got != want {
			t.Errorf("with %d witnesses: %+v", 4-i, got)
		}
	}
}

func TestADamagedLogIsNotReadAsAnEmptyOne(t *testing.T) {
	b := newBed(t, 1)
	b.register("a", "s1")
	b.stop(0)
	path := filepath.Join(b.dirs[0], "raft.db")
	if err := os.WriteFile(path, []byte("not a database, but long enough to be opened as one, perhaps"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.listen(0)
	if w, err := Start(b.config(0)); err == nil {
		_ = w.Close()
		t.Error("started from a damaged log")
	}
}
