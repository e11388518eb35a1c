package main

import (
	"context"
	"encoding/xml"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/gossip/memnet"
	"github.com/shoal-project/shoal/daemon/steward"
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
		f.log = slog.New(slog.NewTextHandler(t.Output(), nil))
		test(t, f)
		f.log.Info("the test ends")
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
		if _, err := place(f, 40); err != nil {
			t.Error(err)
		}
		took, err := failover(f, "many0", 1)
		if err != nil || len(took) != 1 || took.at(1) > 10*time.Second {
			t.Errorf("failover: %s, %v", took, err)
		}
		if pods := f.podsOf("many0"); len(pods) != 4 {
			t.Errorf("after a host's loss and return %d pods run, want 4", len(pods))
		}
	})
}

func TestLossAndASilentHostMoveNoPods(t *testing.T) {
	virtual(t, 4, func(t *testing.T, f *fleet) {
		meet(t, f)
		if _, err := place(f, 20); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		loss, err := suffer(f, func() {
			f.net.Lose(.2)
			time.Sleep(2 * time.Minute)
			f.net.Lose(0)
			time.Sleep(30 * time.Second)
		})
		if err != nil || loss.Moved > 0 {
			t.Errorf("a fifth of all packets lost: %s, %v", loss, err)
		}
		silent, err := suffer(f, func() {
			f.net.Hold(f.nodes[2].at, 5*time.Second)
			time.Sleep(time.Minute)
		})
		if err != nil || silent.Moved > 0 {
			t.Errorf("a host that is silent for 5 s: %s, %v", silent, err)
		}
		lost, err := suffer(f, func() {
			busy, _ := f.busiest(f.podsOf(""))
			f.net.Hold(busy.at, time.Minute)
			time.Sleep(time.Minute)
		})
		if err != nil || lost.Failed == 0 || lost.Moved == 0 {
			t.Errorf("a host that is silent for a minute, which must show: %s, %v", lost, err)
		}
	})
}

// TestWhoWasCutOffForgetsANodeToo: the word of gossip goes round once.
func TestWhoWasCutOffForgetsANodeToo(t *testing.T) {
	virtual(t, 4, func(t *testing.T, f *fleet) {
		meet(t, f)
		lost, away := f.nodes[3], f.nodes[2]
		lists := func(n *node) bool {
			return slices.ContainsFunc(n.Gossip().Members(), func(m gossip.Member) bool { return m.Name == lost.name })
		}
		f.net.PowerOff(lost.at)
		lost.Stop()
		lost.Hostless = nil
		for _, n := range f.up() {
			if _, err := until("it is lost", time.Minute, func() bool {
				gone := false
				_ = n.Do(f.ctx, func() {
					gone = slices.ContainsFunc(n.Members(), func(m steward.Member) bool { return m.Name == lost.name && !m.Alive })
				})
				return gone
			}); err != nil {
				t.Fatal(err)
			}
		}
		f.net.PowerOff(away.at)
		if err := f.nodes[0].Forget(f.ctx, lost.name); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		if lists(f.nodes[1]) || !lists(away) {
			t.Fatalf("who is there lists it: %v; who is cut off: %v", lists(f.nodes[1]), lists(away))
		}
		f.net.PowerOn(away.at)
		if _, err := until("all have forgotten it", 2*time.Minute, func() bool { return !slices.ContainsFunc(f.up(), lists) }); err != nil {
			t.Error(err)
		}
	})
}

func TestTheModelAgreesWithSerf(t *testing.T) {
	const members, times = 40, 10
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{net: memnet.New(time.Millisecond, 0, 1), key: cluster.NewKey(), log: slog.New(slog.DiscardHandler)}
		serf, err := event(f, members, 1200, times)
		if err != nil {
			t.Fatal(err)
		}
		model := modelled(members, time.Millisecond, times, 1)
		for _, part := range []float64{.5, .99} {
			// One tick of gossip is 200 ms.
			if got, want := model.at(part), serf.at(part); (got - want).Abs() > 200*time.Millisecond {
				t.Errorf("%.0f %% of the members have an event after %s by the model, %s by Serf", part*100, got, want)
			}
		}
	})
}

func TestADrawingHasItsCurvesAxesAndBars(t *testing.T) {
	var b strings.Builder
	took := samples{time.Millisecond, 20 * time.Millisecond, 3 * time.Second}
	if err := draw(&b, "a < b", []curve{{"news", took}, {"nothing", nil}}, "B/s", []bar{{"gossip", 300, 2000}}); err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal([]byte(b.String()), new(struct{})); err != nil {
		t.Errorf("no XML: %v", err)
	}
	for _, want := range []string{"a &lt; b", "news: p50 20ms", ">1ms<", ">10s<", "<polyline", "300 B/s"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "nothing") {
		t.Error("a curve without samples is drawn")
	}
}
