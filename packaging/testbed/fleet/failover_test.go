package fleet

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/packaging/testbed/agent"
	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

var runs = flag.Int("runs", 1, "how many hosts TestFailover takes the power from, one after the other")

// returned is how long after its daemon answers again a host may still run what others have taken over.
const returned = 5 * time.Second

// loss is what came of one host's loss, counted from the moment before its power was cut.
type loss struct {
	noticed time.Duration // a survivor's Node object of it is not ready
	ready   time.Duration // as many pods as asked for are ready on the others
}

// TestFailover takes the power from one of five hosts, and gives it back, -runs times.
func TestFailover(t *testing.T) {
	needs(t)
	c := newBed(t, bed.Config{Hosts: 5})
	hosts := c.HostNames()
	c.install(hosts...)
	c.configure(c.sh("n1", "shoal keygen"), hosts, hosts...)
	c.together(hosts...)
	const replicas = 6
	for _, host := range hosts {
		c.drop(host, "web.yaml", workloads(replicas))
	}
	var losses []loss
	for run := range *runs {
		c.spread(replicas, hosts...)
		held := c.scopes("web", hosts...)
		at := run % len(hosts)
		for held[hosts[at]] == 0 { // its loss would cost nothing
			at = (at + 1) % len(hosts)
		}
		victim, observer := hosts[at], hosts[(at+1)%len(hosts)]
		l := c.lose(victim, observer, replicas)
		t.Logf("run %d: %s, with %d of %d, was missed after %.2f s, all were ready after %.2f s", run+1, victim, held[victim], replicas, l.noticed.Seconds(), l.ready.Seconds())
		losses = append(losses, l)
		c.comesBack(victim, replicas, hosts)
	}
	t.Logf("of 5 light hosts one loses power; seconds until\n%s", table(losses))
}

// table is what the runs were, for docs/benchmarks.md.
func table(losses []loss) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| | runs | best | median | p99 | worst |\n|---|---|---|---|---|---|\n")
	for _, row := range []struct {
		name string
		of   func(loss) time.Duration
	}{
		{"its node is not ready", func(l loss) time.Duration { return l.noticed }},
		{"its pods are ready elsewhere", func(l loss) time.Duration { return l.ready }},
	} {
		var times []time.Duration
		for _, l := range losses {
			times = append(times, row.of(l))
		}
		slices.Sort(times)
		at := func(q float64) float64 { return times[int(math.Ceil(q*float64(len(times))))-1].Seconds() }
		fmt.Fprintf(&b, "| %s | %d | %.1f | %.1f | %.1f | %.1f |\n", row.name, len(times), times[0].Seconds(), at(0.5), at(0.99), at(1))
	}
	return b.String()
}

// lose cuts a host's power and watches from another one until its pods are ready elsewhere.
func (c cluster) lose(victim, observer string, replicas int) loss {
	c.Helper()
	ctx, cancel := context.WithTimeoutCause(c.Context(), 2*patience, fmt.Errorf("the pods of %s are not ready elsewhere", victim))
	defer cancel()
	h := c.Host(observer)
	noticed := watch(ctx, h, "nodes "+victim, func(_ string, node *v1.Node) bool {
		return slices.ContainsFunc(node.Status.Conditions, func(c v1.NodeCondition) bool {
			return c.Type == v1.NodeReady && c.Status != v1.ConditionTrue
		})
	})
	elsewhere := map[types.UID]bool{}
	ready := watch(ctx, h, "pods -l app=web", func(change string, pod *v1.Pod) bool {
		delete(elsewhere, pod.UID)
		if change != "DELETED" && pod.Spec.NodeName != victim && isReady(pod) {
			elsewhere[pod.UID] = true
		}
		return len(elsewhere) == replicas
	})
	cut := time.Now()
	if err := c.Host(victim).PowerCut(ctx); err != nil {
		c.Fatal(err)
	}
	l := loss{}
	for _, of := range []struct {
		seen <-chan sighting
		time *time.Duration
	}{{noticed, &l.noticed}, {ready, &l.ready}} {
		s := <-of.seen
		if s.err != nil {
			c.Fatalf("%s: %v", victim, s.err)
		}
		*of.time = s.at.Sub(cut)
	}
	return l
}

func isReady(pod *v1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.PodReady && c.Status == v1.ConditionTrue
	})
}

// sighting is when what was watched for came, or why it did not.
type sighting struct {
	at  time.Time
	err error
}

// watch follows objects from a host until one satisfies done, which is told of each with the kind of change.
func watch[T any](ctx context.Context, h *bed.Host, what string, done func(change string, object *T) bool) <-chan sighting {
	ctx, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	go func() {
		exit, err := h.Stream(ctx, agent.Command{Args: append([]string{"shoal", "get", "-w", "--output-watch-events", "-o", "json"}, strings.Fields(what)...)},
			agent.IO{Stdout: in})
		_ = in.CloseWithError(fmt.Errorf("watch %s: exit code %d, %v", what, exit, err))
	}()
	seen := make(chan sighting, 1)
	go func() {
		defer cancel()
		events := json.NewDecoder(out)
		for {
			var event struct {
				Type   string `json:"type"`
				Object *T     `json:"object"`
			}
			if err := events.Decode(&event); err != nil {
				seen <- sighting{err: fmt.Errorf("%w: %w", context.Cause(ctx), err)}
				return
			}
			if done(event.Type, event.Object) {
				seen <- sighting{at: time.Now()}
				_ = out.Close()
				return
			}
		}
	}()
	return seen
}

// comesBack boots a host again: soon after, nothing runs twice, and all is as it was before.
func (c cluster) comesBack(victim string, replicas int, hosts []string) {
	c.Helper()
	if err := c.Host(victim).Start(c.Context()); err != nil {
		c.Fatal(err)
	}
	c.until(victim, "shoal get nodes")
	grace := time.NewTimer(returned)
	defer grace.Stop()
	select {
	case <-grace.C:
	case <-c.Context().Done():
		c.Fatal(context.Cause(c.Context()))
	}
	web, agents, sum := c.scopes("web", hosts...), c.scopes("agent", hosts...), 0
	for _, host := range hosts {
		sum += web[host]
		if agents[host] > 1 {
			c.Errorf("%s after %s is back, agents are %v", returned, victim, agents)
		}
	}
	if sum > replicas {
		c.Errorf("%s after %s is back, %d pods run and not %d: %v", returned, victim, sum, replicas, web)
	}
	c.spread(replicas, hosts...)
	c.together(hosts...)
}
