package witness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/shoal-project/shoal/daemon/lease"
)

// wish is an operation on one claim, and held the model's state of it.
type wish struct {
	key, node string
	token     uint64 // to release; 0: to acquire
}

type result struct {
	unknown bool // it may have been done, or may still be
	granted bool
	token   uint64
	holder  string
}

type held struct {
	node  string // "": nobody
	token uint64 // 0: of an acquisition whose answer nobody got
	most  uint64
}

// claims is what a claim must look like from outside: one holder at a time, and
// tokens that grow.
var claims = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := make(map[string][]porcupine.Operation)
		for _, op := range history {
			byKey[op.Input.(wish).key] = append(byKey[op.Input.(wish).key], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return held{} },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(held), input.(wish), output.(result)
		if in.token != 0 {
			mine := s.node == in.node && s.token == in.token
			if mine {
				return out.unknown || out.granted, held{most: s.most}
			}
			return out.unknown || !out.granted, s
		}
		switch free := s.node == "" || s.node == in.node; {
		case !free:
			return out.unknown || !out.granted && out.holder == s.node, s
		case out.unknown:
			return true, held{in.node, 0, s.most}
		}
		return out.granted && out.token > s.most, held{in.node, out.token, out.token}
	},
	Equal: func(a, b any) bool { return a == b },
}

func TestTheCheckerSeesTwoHolders(t *testing.T) {
	history := []porcupine.Operation{
		{Input: wish{key: "k", node: "a"}, Call: 1, Output: result{granted: true, token: 1}, Return: 2},
		{Input: wish{key: "k", node: "b"}, Call: 3, Output: result{granted: true, token: 2}, Return: 4},
	}
	if porcupine.CheckOperations(claims, history) {
		t.Error("two holders at once pass")
	}
	history[0].Output = result{granted: true, token: 3}
	history = append(history, porcupine.Operation{Input: wish{key: "k", node: "a", token: 3}, Call: 2, Output: result{granted: true}, Return: 3})
	if porcupine.CheckOperations(claims, history) {
		t.Error("a token that is not above the last one passes")
	}
}

func TestClaimsAreLinearizableWhileLeadersAreLost(t *testing.T) {
	b := newBed(t, 3)
	nodes := []string{"a", "b", "c", "d"}
	epochs := make(map[string]uint64)
	for _, node := range nodes {
		epochs[node] = b.register(node, "s").Epoch
	}
	var (
		mu      sync.Mutex
		history []porcupine.Operation
		start   = time.Now()
		done    = make(chan struct{})
		work    sync.WaitGroup
	)
	record := func(client int, in wish, call time.Duration, out result) {
		mu.Lock()
		defer mu.Unlock()
		end := time.Since(start)
		if out.unknown {
			end = time.Hour
		}
		history = append(history, porcupine.Operation{ClientId: client, Input: in, Call: int64(call), Output: out, Return: int64(end)})
	}
	for client, node := range nodes {
		work.Go(func() {
			random := rand.New(rand.NewPCG(uint64(client), 7))
			tokens := make(map[string]uint64)
			for try := uint64(1); ; try++ {
				select {
				case <-done:
					return
				default:
				}
				in := wish{key: fmt.Sprint("k", random.IntN(2)), node: node}
				c := lease.Command{Do: lease.Acquire, Node: node, Epoch: epochs[node], Key: in.key, Try: try}
				if in.token = tokens[in.key]; in.token != 0 {
					c.Do, c.Token = lease.Release, in.token
				}
				call := time.Since(start)
				got, err := b.wits[random.IntN(len(b.wits))].Do(c)
				if errors.As(err, new(NotLeading)) {
					continue // nothing was done
				}
				out := result{unknown: err != nil, granted: got.Refused == lease.Granted, token: got.Holder.Token, holder: got.Holder.Node}
				record(client, in, call, out)
				delete(tokens, in.key)
				if c.Do == lease.Acquire && err == nil && out.granted {
					tokens[in.key] = out.token
				}
			}
		})
	}
	operations := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(history)
	}
	losses := 3
	if testing.Short() {
		losses = 1
	}
	for range losses {
		goal := operations() + 60
		b.eventually("some operations", func() error {
			if operations() < goal {
				return errors.New("too few")
			}
			return nil
		})
		old := b.leader()
		b.nets[old].isolate(true)
		b.leader(old)
		b.nets[old].isolate(false)
	}
	close(done)
	work.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	answer := make(chan porcupine.CheckResult, 1)
	go func() { answer <- porcupine.CheckOperationsTimeout(claims, history, 50*time.Second) }()
	select {
	case got := <-answer:
		if got != porcupine.Ok {
			t.Errorf("the history of %d operations is %s", len(history), got)
		}
	case <-ctx.Done():
		t.Error("the check took too long")
	}
	t.Logf("%d operations", len(history))
}
