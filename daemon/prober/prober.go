package prober

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/probe"
)

// Key names a probe of one run of a container.
type Key struct {
	Container string
	Attempt   int
	Kind      probe.Kind
}

// Task is a probe to be repeated.
type Task struct {
	Key     Key
	Probe   *v1.Probe
	Target  Target
	Started time.Time   // when the container was
	State   probe.State // to go on from, where the prober does not know the task yet
	// Said is told of every probe whose outcome is worth an event or changed the
	// state's Result. It may be told once more of a task that was just dropped.
	Said func(probe.State, probe.Outcome)
}

// Prober repeats the probes of all pods. One goroutine keeps the time; each
// probe runs in its own. The zero value is ready; Run it.
type Prober struct {
	mu    sync.Mutex
	tasks map[string]map[Key]*entry // by owner
	queue queue
	wake  chan struct{}
	begun time.Time // the grid's origin
	wait  sync.WaitGroup
}

// entry is a task and when it is due next.
type entry struct {
	task    Task
	due     time.Time
	place   int // in the queue; -1: not in it
	dropped bool
	cancel  context.CancelFunc // of the probe under way
}

// New makes a prober.
func New() *Prober {
	return &Prober{tasks: make(map[string]map[Key]*entry), wake: make(chan struct{}, 1), begun: time.Now()}
}

// Set makes tasks all that is probed for an owner. Those that it knows go on as
// they are, but to where the new ones point; probes under way of others are
// called off.
func (p *Prober) Set(owner string, tasks []Task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.tasks[owner]
	if len(old) == 0 && len(tasks) == 0 {
		return
	}
	now := make(map[Key]*entry, len(tasks))
	for _, t := range tasks {
		e := old[t.Key]
		if e == nil {
			e = &entry{task: t, due: probe.First(t.Key.Kind, t.Probe, t.State, t.Started, time.Now(), rand.Float64()), place: -1}
			p.push(e, together)
		}
		e.task.Target = t.Target
		now[t.Key] = e
		delete(old, t.Key)
	}
	for _, e := range old {
		p.drop(e)
	}
	if p.tasks[owner] = now; len(now) == 0 {
		delete(p.tasks, owner)
	}
}

// together is the grid on which probes are due: those of one moment share what
// waking up costs, which is half of what a probe does.
const together = 50 * time.Millisecond

// apart are how many moments of a period probes over the network share. The
// first probe comes when it is due; later ones move to the next such moment,
// once: 100 probes each 10 s wake the daemon twice a second and not ten times.
// Commands stay where they are: many at once would get in each other's way.
const apart = 20

func grid(p *v1.Probe) time.Duration {
	if p.Exec != nil {
		return together
	}
	return max(together, probe.Period(p)/apart)
}

func (p *Prober) push(e *entry, grid time.Duration) {
	if late := e.due.Sub(p.begun) % grid; late > 0 {
		e.due = e.due.Add(grid - late)
	}
	heap.Push(&p.queue, e)
	if e.place == 0 {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

func (p *Prober) drop(e *entry) {
	e.dropped = true
	if e.place >= 0 {
		heap.Remove(&p.queue, e.place)
	}
	if e.cancel != nil {
		e.cancel()
	}
}

// Run probes until ctx ends, and returns when no probe is under way any more.
func (p *Prober) Run(ctx context.Context) {
	defer p.wait.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(p.begin(ctx, time.Now()))
		select {
		case <-timer.C:
		case <-p.wake:
		case <-ctx.Done():
			return
		}
	}
}

// begin starts the probes that are due and says how long nothing is.
func (p *Prober) begin(ctx context.Context, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 {
		e := p.queue[0]
		if wait := e.due.Sub(now); wait > 0 {
			return wait
		}
		heap.Pop(&p.queue)
		ctx, cancel := context.WithCancel(ctx)
		e.cancel = cancel
		target := e.task.Target
		p.wait.Go(func() {
			out := Probe(ctx, target, e.task.Probe)
			if ctx.Err() == nil {
				p.ended(e, out)
			}
			cancel()
		})
	}
	return time.Hour
}

// ended takes a probe's outcome, says what is to be said of it and puts the
// next one in the queue.
func (p *Prober) ended(e *entry, out probe.Outcome) {
	t := &e.task
	before := t.State.Result // its state is its own probe's, of which there is one at a time
	if out.Err == nil {
		t.State = t.State.After(t.Probe, out.Result)
	}
	if t.State.Result != before || out.Err != nil || out.Warning || out.Result == probe.Failure {
		t.Said(t.State, out)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e.cancel = nil
	if !e.dropped && !t.State.Over(t.Key.Kind) {
		e.due = probe.Next(t.Probe, e.due, time.Now())
		p.push(e, grid(t.Probe))
	}
}

// queue is a heap of entries, the one due next first.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

func (q *queue) Push(x any) {
	e := x.(*entry)
	e.place = len(*q)
	*q = append(*q, e)
}

func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	e.place = -1
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return e
}
