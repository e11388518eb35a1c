package warden

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/lease"
	"github.com/shoal-project/shoal/daemon/tenure"
)

func TestALoneHostIsItsOwnWitnessAndTakesOthersIn(t *testing.T) {
	b := newBed(t)
	n1 := b.add("n1")
	n1.alone = true
	n1.start()
	b.holds(n1)
	want := n1.claim("pod/default/db-0", 1)
	if want.Refused != lease.Granted || want.Holder.Token == 0 {
		t.Fatalf("a free claim: %+v", want)
	}
	epoch := n1.stands().Lease.Epoch

	// It gets a key and others, with what it holds.
	b.mu.Lock()
	n1.alone = false
	b.mu.Unlock()
	var others []*box
	for _, name := range []string{"n2", "n3", "n4", "n5"} {
		h := b.add(name)
		h.joins = true
		others = append(others, h)
		h.start()
	}
	b.seats(n1, "n1", "n2", "n3", "n4", "n5")
	b.holds(others...)
	if got := n1.stands().Lease.Epoch; got != epoch {
		t.Errorf("its epoch was %d, is %d", epoch, got)
	}
	if got := others[3].claim("pod/default/db-0", 1); got.Refused != lease.Held || got.Holder != want.Holder {
		t.Errorf("n5 claims what n1 holds: %+v", got)
	}

	// And back: they say goodbye, n1 keeps all.
	for _, h := range others {
		if err := tenure.NewClient(h.socket()).Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.mu.Lock()
		h.left = true
		h.mu.Unlock()
	}
	r := b.seats(n1, "n1")
	if len(r.Claims) != 1 || r.Claims[0].Token != want.Holder.Token || r.Claims[0].Since == "" {
		t.Errorf("claims at the end: %+v", r.Claims)
	}
	if got := n1.stands().Lease.Epoch; got != epoch {
		t.Errorf("its epoch was %d, is %d", epoch, got)
	}
}

func three(b *bed) (hosts []*box) {
	for _, name := range []string{"n1", "n2", "n3"} {
		h := b.add(name)
		h.joins, h.expect = true, 3
		hosts = append(hosts, h)
	}
	return hosts
}

func TestHostsBeginTogetherAndOutliveTheLeadersProcess(t *testing.T) {
	b := newBed(t)
	hosts := three(b)
	hosts[0].start()
	hosts[1].start()
	b.eventually("a word on what it waits for", func() error {
		if got := hosts[0].stands().Problem; !strings.Contains(got, "exactly 3 hosts") || !strings.Contains(got, "now it is 2") {
			return fmt.Errorf("it says %q", got)
		}
		return nil
	})
	hosts[2].start()
	r := b.seats(hosts[1], "n1", "n2", "n3")
	b.holds(hosts...)
	lost := b.hosts[r.Leader]
	var kept []*box
	epochs := make(map[string]uint64)
	for _, h := range hosts {
		if h != lost {
			kept = append(kept, h)
			epochs[h.name] = h.stands().Lease.Epoch
		}
	}
	claimed := lost.claim("k", 1)
	lost.stop()
	b.eventually("another leader", func() error {
		got, err := tenure.NewClient(kept[0].socket()).Report(t.Context())
		if err != nil || got.Leader == "" || got.Leader == lost.name {
			return fmt.Errorf("it is %q, %v", got.Leader, err)
		}
		return nil
	})
	b.eventually("the claim of the lost host", func() error {
		if got := kept[0].claim("k", uint64(time.Now().UnixNano())); got.Refused != lease.Granted || got.Holder.Token <= claimed.Holder.Token {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	for _, h := range kept {
		if got := h.stands().Lease.Epoch; got != epochs[h.name] {
			t.Errorf("%s lost its lease with the leader: epoch %d, was %d", h.name, got, epochs[h.name])
		}
	}
	lost.start()
	b.seats(kept[0], "n1", "n2", "n3")
	b.holds(lost)
}

func TestAMajorityThatIsLostIsRecoveredByAPerson(t *testing.T) {
	b := newBed(t)
	hosts := three(b)
	for _, h := range hosts {
		h.start()
	}
	b.seats(hosts[0], "n1", "n2", "n3")
	b.holds(hosts...)
	hosts[1].stop()
	hosts[2].stop()
	b.eventually("a word on the majority", func() error {
		if got := hosts[0].stands(); got.Lease.Epoch != 0 || !strings.Contains(got.Problem, "of 3, this host does not see n2, n3") {
			return fmt.Errorf("epoch %d, %q", got.Lease.Epoch, got.Problem)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := tenure.NewClient(hosts[0].socket()).Recover(ctx); err != nil {
		t.Fatal(err)
	}
	r := b.seats(hosts[0], "n1")
	if !r.Closed {
		t.Error("it grants at once")
	}
	b.eventually("its words", func() error {
		if got := hosts[0].stands().Problem; got != string(lease.Shut) {
			return fmt.Errorf("it says %q", got)
		}
		return nil
	})
	// Those that come back have nothing to say: they are taken in again.
	hosts[1].start()
	hosts[2].start()
	b.seats(hosts[0], "n1", "n2", "n3")
}

func TestAWitnessWithANewDiskGetsItsSeatAnew(t *testing.T) {
	longer(t)
	b := newBed(t)
	hosts := three(b)
	for _, h := range hosts {
		h.start()
	}
	r := b.seats(hosts[0], "n1", "n2", "n3")
	lost := hosts[0]
	if r.Leader == lost.name {
		lost = hosts[1]
	}
	old := lost.stands().Self.Store
	lost.stop()
	if err := os.RemoveAll(filepath.Join(lost.dir, "witness")); err != nil {
		t.Fatal(err)
	}
	lost.start()
	b.eventually("another store", func() error {
		if s := lost.stands(); s.Self.Store == old || s.Self.Store == "" {
			return fmt.Errorf("%+v", s.Self)
		}
		return nil
	})
	for _, s := range b.seats(hosts[2], "n1", "n2", "n3").Seats {
		if s.Store == old {
			t.Errorf("%s has its old vote", s.Node)
		}
	}
}

func TestASixthHostTakesTheSeatOfALostOne(t *testing.T) {
	longer(t)
	b := newBed(t)
	var hosts []*box
	for _, name := range []string{"n1", "n2", "n3", "n4", "n5", "n6"} {
		h := b.add(name)
		h.joins, h.expect = true, 6
		hosts = append(hosts, h)
		h.start()
	}
	r := b.seats(hosts[5], "n1", "n2", "n3", "n4", "n5")
	b.holds(hosts...)
	lost := b.hosts[r.Seats[0].Node]
	lost.stop()
	b.seats(hosts[5], "n2", "n3", "n4", "n5", "n6")
	lost.start()
	b.holds(lost)
	b.seats(hosts[5], "n2", "n3", "n4", "n5", "n6")
}

func TestTwoLoneHostsBecomeOneOnceTheYoungerHoldsNothing(t *testing.T) {
	longer(t)
	b := newBed(t)
	n1, n2 := b.add("n1"), b.add("n2")
	n1.alone, n2.alone = true, true
	n1.start()
	b.holds(n1)
	n2.start()
	b.holds(n2)
	held := n2.claim("k", 1)
	b.mu.Lock()
	n1.alone, n2.alone = false, false
	b.mu.Unlock()
	b.eventually("n2 to say what it waits for", func() error {
		if got := n2.stands().Problem; !strings.Contains(got, "once k, which n2 holds, is released") {
			return fmt.Errorf("it says %q", got)
		}
		return nil
	})
	epoch := n1.stands().Lease.Epoch
	_, err := tenure.NewClient(n2.socket()).Do(t.Context(), lease.Command{Do: lease.Release, Key: "k", Epoch: held.Holder.Epoch, Token: held.Holder.Token})
	if err != nil {
		t.Fatal(err)
	}
	b.seats(n2, "n1", "n2")
	b.holds(n1, n2)
	if got := n1.stands().Lease.Epoch; got != epoch {
		t.Errorf("the older one lost its lease: epoch %d, was %d", got, epoch)
	}
}
