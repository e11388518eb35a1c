package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-project/shoal/daemon/gossip/memnet"
)

// virtual runs a test of a fleet in virtual time, from today on.
func virtual(t *testing.T, nodes int, test func(t *testing.T, f *fleet)) {
	dir := t.TempDir()
	today := time.Now()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(today))
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		f, err := newFleet(ctx, dir, nodes, memnet.New(time.Millisecond, 0, 1))
		if err != nil {
			t.Fatal(err)
		}
		test(t, f)
		f.stop()
	})
}

// meet boots a fleet and waits until it is one.
func meet(t *testing.T, f *fleet) {
	t.Helper()
	if err := f.boot(); err != nil {
		t.Fatal(err)
	}
	if _, err := until("all see each other and know the same", 5*time.Minute, f.one); err != nil {
		t.Fatal(err)
	}
}

func TestNewsAndPodsComeToAllNodesAndALostHostsPodsElsewhere(t *testing.T) {
	virtual(t, 5, func(t *testing.T, f *fleet) {
		meet(t, f)
		time.Sleep(3 * time.Minute) // until the cluster is settled, and all have said so
		if r := atRest(f, 30*time.Second); r.Gossip < 50 || r.Peers < 50 || r.Gossip+r.Peers > 2000 {
			t.Errorf("at rest: %s", r)
		}
		if took, err := converge(f, 2); err != nil || len(took) != 8 || took.at(1) > 5*time.Second {
			t.Errorf("a new manifest: %s, %v", took, err)
		}
		if _, err := place(f, 24, 2); err != nil {
			t.Error(err)
		}
		took, err := failover(f, "many0", 1)
		if err != nil || len(took) != 1 || took.at(1) > 10*time.Second {
			t.Errorf("failover: %s, %v", took, err)
		}
		if pods := f.podsOf("many0"); len(pods) != 12 {
			t.Errorf("after a host's loss and return %d pods run, want 12", len(pods))
		}
	})
}

func TestLossAndASilentHostMoveNoPods(t *testing.T) {
	virtual(t, 4, func(t *testing.T, f *fleet) {
		meet(t, f)
		if _, err := place(f, 20, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		loss, err := suffer(f, "many0", func() {
			f.net.Lose(.2)
			time.Sleep(2 * time.Minute)
			f.net.Lose(0)
			time.Sleep(30 * time.Second)
		})
		if err != nil || loss.Moved > 0 {
			t.Errorf("a fifth of all packets lost: %s, %v", loss, err)
		}
		silent, err := suffer(f, "many0", func() {
			f.net.Hold(f.nodes[2].at, 5*time.Second)
			time.Sleep(time.Minute)
		})
		if err != nil || silent.Moved > 0 {
			t.Errorf("a host that is silent for 5 s: %s, %v", silent, err)
		}
		lost, err := suffer(f, "many0", func() {
			f.net.Hold(f.nodes[2].at, time.Minute)
			time.Sleep(time.Minute)
		})
		if err != nil || lost.Failed == 0 || lost.Moved == 0 {
			t.Errorf("a host that is silent for a minute, which must show: %s, %v", lost, err)
		}
	})
}
