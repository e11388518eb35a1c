package exclusive

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/lease"
)

const key = "pod/default/billing"

// world is some nodes with two pods each that want one key, and the witnesses.
// Commands and answers are lost, doubled and late.
type world struct {
	t      *testing.T
	random *rand.Rand
	state  *lease.State
	now    time.Duration
	nodes  []*node
	late   []lease.Command // on their way to the witnesses
	most   uint64          // the largest token that a pod ran with
}

type node struct {
	name     string
	table    *Table
	standing Standing
	running  map[string]Leave
	wanting  map[string]bool
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 1)), state: lease.NewState(), now: time.Hour}
	for i := range 3 {
		n := &node{name: fmt.Sprint("n", i), running: map[string]Leave{}, wanting: map[string]bool{}}
		n.table = NewTable(n.name)
		w.nodes = append(w.nodes, n)
		w.register(n)
	}
	return w
}

// register gives a node an epoch, after nothing runs there.
func (w *world) register(n *node) {
	out := w.state.Apply(1, lease.Command{Do: lease.Register, Node: n.name, Session: fmt.Sprint(w.now), Lease: 15 * time.Second})
	n.standing = Standing{Epoch: out.Epoch.Number, Deadline: 1 << 62, Loss: w.now}
}

func (w *world) step() {
	w.now += time.Duration(w.random.IntN(int(2 * time.Second)))
	n := w.nodes[w.random.IntN(len(w.nodes))]
	pod := fmt.Sprint(n.name, "-", w.random.IntN(2))
	switch w.random.IntN(13) {
	case 0, 1, 2:
		n.wanting[pod] = true
		n.table.Want(key, pod)
	case 3:
		delete(n.running, pod)
		delete(n.wanting, pod)
		n.table.Done(key, pod)
	case 4:
		w.lose(n)
	case 5:
		w.restart(n)
	case 6:
		w.arrive()
	case 7: // the lease process is killed, and all that ran; the next one has the same epoch
		n.running = map[string]Leave{}
		n.standing.Loss = w.now
	default:
		w.work(n, true)
	}
	w.check()
}

// work asks what is to be asked, and starts what may be started.
func (w *world) work(n *node, faults bool) {
	commands, _ := n.table.Look(n.standing, w.now)
	for _, c := range commands {
		var out lease.Outcome
		err := errors.New("lost")
		switch fault := w.random.IntN(6); {
		case faults && fault == 0: // it never arrives
		case faults && fault == 1:
			w.late = append(w.late, c)
		case faults && fault == 2: // the answer is lost
			w.state.Apply(1, c)
		default:
			out, err = w.state.Apply(1, c), nil
		}
		n.table.Hear(c, out, err, w.now)
	}
	for pod := range n.wanting {
		if l, good := n.table.Held(key, pod, n.standing, w.now); good {
			if old, runs := n.running[pod]; !runs && l.Token <= w.most || runs && old != l {
				w.t.Fatalf("%s starts with %+v after token %d", pod, l, w.most)
			}
			n.running[pod] = l
			w.most = max(w.most, l.Token)
		}
	}
}

// lose takes the lease from a node: all that ran there is killed, then others may take over.
func (w *world) lose(n *node) {
	n.running = map[string]Leave{}
	w.state.Apply(1, lease.Command{Do: lease.Resign, Node: n.name, Epoch: n.standing.Epoch})
	w.register(n)
}

// restart is the daemon's: what runs goes on, what it knew of claims is lost.
func (w *world) restart(n *node) {
	n.table = NewTable(n.name)
	for pod, l := range n.running {
		n.table.Restore(pod, l)
	}
	for pod := range n.wanting {
		n.table.Want(key, pod)
	}
}

func (w *world) arrive() {
	if len(w.late) > 0 {
		w.state.Apply(1, w.late[0])
		w.late = w.late[1:]
	}
}

func (w *world) check() {
	running := 0
	for _, n := range w.nodes {
		running += len(n.running)
		for pod, l := range n.running {
			if holder, held := w.state.Holder(key); !held || holder.Node != n.name || holder.Token != l.Token {
				w.t.Fatalf("%s runs by %+v, the witnesses say %+v %v", pod, l, holder, held)
			}
		}
	}
	if running > 1 {
		w.t.Fatalf("%d pods run", running)
	}
}

// settle has the faults end: then somebody runs, if anybody wants to.
func (w *world) settle() {
	w.quiet()
	wanting, running := 0, 0
	for _, n := range w.nodes {
		if command, stray := n.table.Stray(key, w.state.Claims[key]); stray {
			w.state.Apply(1, command)
		}
	}
	w.quiet()
	for _, n := range w.nodes {
		wanting += len(n.wanting)
		running += len(n.running)
	}
	w.check()
	if wanting > 0 && running != 1 {
		w.t.Errorf("%d pods want to run, and %d do", wanting, running)
	}
}

// quiet is a while without faults: questions, answers, releases.
func (w *world) quiet() {
	for len(w.late) > 0 {
		w.arrive()
	}
	for range 5 {
		w.now += 2 * time.Second
		for _, n := range w.nodes {
			w.work(n, false)
		}
	}
}

func TestOneRunsAtATimeAndNoClaimIsLeftBehind(t *testing.T) {
	ran := 0
	for seed := range uint64(300) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t, seed)
			for range 200 {
				w.step()
			}
			if w.most > 0 {
				ran++
			}
			w.settle()
			for _, n := range w.nodes {
				for _, pod := range []string{n.name + "-0", n.name + "-1"} {
					delete(n.running, pod)
					delete(n.wanting, pod)
					n.table.Done(key, pod)
				}
			}
			w.quiet()
			for _, n := range w.nodes {
				if c, stray := n.table.Stray(key, w.state.Claims[key]); stray {
					w.state.Apply(1, c)
				}
				if len(n.table.rows) > 0 {
					t.Errorf("%s remembers %+v", n.name, *n.table.rows[key])
				}
			}
			if holder, held := w.state.Holder(key); held {
				t.Errorf("%+v is left behind", holder)
			}
		})
	}
	if ran < 290 {
		t.Errorf("in %d worlds of 300 a pod ran", ran)
	}
}

func TestAPodSaysWhatItWaitsFor(t *testing.T) {
	s := Standing{Epoch: 3, Deadline: 1 << 62, Loss: 1}
	table := NewTable("n1")
	hear := func(out lease.Outcome, err error) {
		commands, _ := table.Look(s, time.Hour)
		if len(commands) != 1 {
			t.Fatalf("asked %v", commands)
		}
		table.Hear(commands[0], out, err, 0)
	}
	show := func(pod string, s Standing, want string) {
		t.Helper()
		if got := table.Waits(key, pod, s); fmt.Sprintf("%s: %s", got.Why, got.Message) != want {
			t.Errorf("got  %s: %s\nwant %s", got.Why, got.Message, want)
		}
	}
	table.Want(key, "a")
	table.Want(key, "b")
	show("a", Standing{Loss: 1, Problem: "no majority of the witnesses (1 of 3) answers"}, "NoLease: this host has no lease: no majority of the witnesses (1 of 3) answers")
	show("a", s, "Asking: the witnesses have been asked")
	show("b", s, "HeldByNode: another pod on this node has it")
	hear(lease.Outcome{}, errors.New("no leader"))
	show("a", s, "NoAnswer: the witnesses do not answer: no leader")
	hear(lease.Outcome{Refused: lease.Held, Holder: lease.Claim{Node: "n2", Epoch: 2}}, nil)
	show("a", s, "HeldByNode: node n2 holds it at epoch 2, until it is released there or that node's lease has run out")
}

func TestALeaveEndsWithTheLease(t *testing.T) {
	l := Leave{Key: key, Epoch: 3, Token: 4, Loss: 10}
	for _, test := range []struct {
		what       string
		s          Standing
		now        time.Duration
		good, lost bool
	}{
		{"in force", Standing{Epoch: 3, Deadline: 100, Loss: 10}, 99, true, false},
		{"not renewed in time", Standing{Epoch: 3, Deadline: 100, Loss: 10}, 100, false, false},
		{"being handed over", Standing{Deadline: 100, Loss: 10}, 50, false, false},
		{"lost", Standing{Loss: 120}, 130, false, true},
		{"lost, and another one got", Standing{Epoch: 7, Deadline: 200, Loss: 120}, 130, false, true},
		{"nothing is known", Standing{}, 50, false, false},
	} {
		if good, lost := test.s.Good(l, test.now), test.s.Lost(l); good != test.good || lost != test.lost {
			t.Errorf("%s: good %v, lost %v", test.what, good, lost)
		}
	}
}

// TestTheNewerOfTwoLeavesIsTakenUp, in whichever order a daemon finds them: a pod
// that was replaced, and whose state is on the disk still, must not get the key
// back, nor have the claim given back of the one that runs.
func TestTheNewerOfTwoLeavesIsTakenUp(t *testing.T) {
	s := Standing{Epoch: 3, Deadline: 1 << 62, Loss: 10}
	older := Leave{Key: key, Epoch: 3, Token: 4, Try: 1, Loss: 10}
	newer := Leave{Key: key, Epoch: 3, Token: 6, Try: 2, Loss: 10}
	type found struct {
		pod string
		l   Leave
	}
	for order, list := range map[string][]found{
		"the older one first": {{"old", older}, {"new", newer}},
		"the newer one first": {{"new", newer}, {"old", older}},
	} {
		table := NewTable("n1")
		for _, f := range list {
			table.Restore(f.pod, f.l)
		}
		if got, held := table.Held(key, "new", s, time.Hour); !held || got != newer {
			t.Errorf("%s: the pod that runs has %+v, %v, want %+v", order, got, held, newer)
		}
		if got, held := table.Held(key, "old", s, time.Hour); held {
			t.Errorf("%s: the pod that has ended holds %+v", order, got)
		}
		table.Done(key, "old")
		if commands, _ := table.Look(s, time.Hour); len(commands) > 0 {
			t.Errorf("%s: at the end of the older pod the witnesses are asked %+v", order, commands)
		}
	}
}
