package warden

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/shoal-project/shoal/daemon/lease"
	"github.com/shoal-project/shoal/daemon/tenure"
)

const (
	// onceWithin is how long one node may take to answer: two that are dead leave
	// a renewal half of its time.
	onceWithin = 2 * time.Second
	// muteFor is how long a node that did not answer is asked last.
	muteFor = 10 * time.Second
	// askAgain is between two rounds in which nobody led.
	askAgain = 300 * time.Millisecond
	// mostReply bounds what is answered: a report of many hosts.
	mostReply = 64 << 20
)

// errNobody is that no witness leads, as far as any of those that were asked knows.
var errNobody = errors.New("no witness leads")

// Ask is gate.Witnesses'. It tries once: gate asks again each second.
func (w *Warden) Ask(ctx context.Context, r lease.Request) (lease.Answer, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return lease.Answer{}, err
	}
	out, err := w.round(ctx, ask{path: pathLease, body: body})
	if err != nil {
		w.unheard()
		return lease.Answer{}, err
	}
	w.heard(out)
	if out.Lease == nil {
		return lease.Answer{}, errors.New("an answer without a lease")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refusal = string(out.Lease.Refused)
	w.changed()
	return *out.Lease, nil
}

// do is a claim of this host.
func (w *Warden) do(ctx context.Context, c lease.Command) (lease.Outcome, error) {
	if c.Do != lease.Forget {
		c.Node = w.snapshot().Node
	}
	if c.Do != lease.Acquire && c.Do != lease.Release && c.Do != lease.Forget {
		return lease.Outcome{}, fmt.Errorf("%q is no claim", c.Do)
	}
	if err := c.Check(); err != nil {
		return lease.Outcome{}, err
	}
	out, err := w.find(ctx, pathClaim, c)
	if err != nil {
		return lease.Outcome{}, err
	}
	if out.Claim == nil {
		return lease.Outcome{}, errors.New("an answer without an outcome")
	}
	return *out.Claim, nil
}

// find asks the witnesses' leader, wherever it is, until ctx ends.
func (w *Warden) find(ctx context.Context, path string, in any) (reply, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return reply{}, err
	}
	var last error
	for {
		r, err := w.round(ctx, ask{path: path, body: body})
		if err == nil {
			w.heard(r)
			return r, nil
		}
		if !errors.Is(err, context.DeadlineExceeded) || last == nil {
			last = err
		}
		w.unheard()
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return reply{}, last
		}
	}
}

// errAnswered is what the leader says is wrong: no other one says better.
type errAnswered string

func (e errAnswered) Error() string { return string(e) }

// round asks each node that may lead once, the likeliest first.
func (w *Warden) round(ctx context.Context, a ask) (reply, error) {
	asked := make(map[string]bool)
	queue := w.likely()
	last := errNobody
	for len(queue) > 0 {
		node := queue[0]
		queue = queue[1:]
		if asked[node] || node == "" {
			continue
		}
		asked[node] = true
		r, err := w.once(ctx, node, a)
		w.listened(node, err)
		switch {
		case err != nil:
			last = err
		case r.Error != "":
			return r, errAnswered(r.Error)
		case r.Elsewhere:
			if r.Leader != "" && !asked[r.Leader] {
				queue = append([]string{r.Leader}, queue...)
			}
		default:
			w.mu.Lock()
			w.leader = node
			w.mu.Unlock()
			return r, nil
		}
		if ctx.Err() != nil {
			return reply{}, last
		}
	}
	return reply{}, last
}

// listened notes whether a node answers.
func (w *Warden) listened(node string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		delete(w.mute, node)
		return
	}
	if w.mute == nil {
		w.mute = make(map[string]time.Time)
	}
	w.mute[node] = time.Now()
}

// likely are the nodes that may lead: the one that did, this one, those that
// have seats, then those that say they have a log; of all of them last those that
// did not answer a moment ago. Of others none is asked.
func (w *Warden) likely() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := []string{w.leader}
	if w.seat != nil {
		list = append(list, w.host.Node)
		if servers, err := w.seat.Servers(); err == nil {
			for _, s := range servers {
				list = append(list, nodeOf(s.ID))
			}
		}
	}
	for _, id := range w.seats {
		list = append(list, nodeOf(id))
	}
	for _, m := range w.host.Members {
		if m.Log != "" && m.Alive && !m.Left {
			list = append(list, m.Name)
		}
	}
	mute := func(node string) int {
		if at, is := w.mute[node]; is && time.Since(at) < muteFor {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(list, func(a, b string) int { return mute(a) - mute(b) })
	return list
}

func (w *Warden) once(ctx context.Context, node string, a ask) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, onceWithin)
	defer cancel()
	me := w.snapshot().Node
	if node == me {
		a.from = me
		return w.answer(ctx, a), nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+node+":1"+a.path, bytes.NewReader(a.body))
	if err != nil {
		return reply{}, err
	}
	resp, err := w.port.asks.Do(req)
	if err != nil {
		return reply{}, fmt.Errorf("ask node %s: %w", node, plain(err))
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, mostReply))
	if err != nil {
		return reply{}, fmt.Errorf("ask node %s: %w", node, err)
	}
	if resp.StatusCode != http.StatusOK {
		return reply{}, fmt.Errorf("node %s: HTTP %d: %s", node, resp.StatusCode, strings.TrimSpace(string(data[:min(len(data), 300)])))
	}
	var r reply
	if err := json.Unmarshal(data, &r); err != nil {
		return reply{}, fmt.Errorf("what node %s answers can't be read: %w", node, err)
	}
	return r, nil
}

// plain is an error of a request without what was asked, which says nothing.
func plain(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// heard takes note of the leader's answer.
func (w *Warden) heard(r reply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.quiet = time.Time{}
	if r.Log != "" {
		w.seats = r.Seats
		w.missed(r)
	}
	w.changed()
}

// missed finds out that this host's seat is gone, where it could not be told.
func (w *Warden) missed(r reply) {
	if w.seat == nil || r.Log != w.disk.Log || slices.Contains(r.Seats, idOf(w.host.Node, w.disk.Store)) {
		w.absent = 0
		return
	}
	// One answer may be older than the seat.
	if w.absent++; w.absent > 10 {
		w.absent = 0
		w.unseat()
	}
}

func (w *Warden) unheard() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.quiet.IsZero() {
		w.quiet = time.Now()
	}
	if time.Since(w.quiet) > w.config.Budget.Watchdog {
		w.leader = ""
	}
	w.changed()
}

// problem is why this host has no lease, in words. The caller holds the lock.
func (w *Warden) problem() string {
	port := w.port.problem.Load()
	switch {
	case w.gateErr != nil:
		return w.gateErr.Error()
	case w.trouble != "":
		return w.trouble
	case w.lease.Epoch != 0:
		return ""
	case w.seat == nil && w.leader == "" && !w.others():
		return w.waits()
	case !w.quiet.IsZero() && time.Since(w.quiet) > w.config.Budget.Watchdog:
		return w.minority(port)
	case w.refusal != "":
		return w.refusal
	}
	return "this host is asking for its lease"
}

// others is whether any host is known to be a witness. The caller holds the lock.
func (w *Warden) others() bool {
	return slices.ContainsFunc(w.host.Members, func(m tenure.Member) bool { return m.Log != "" && !m.Left })
}

func (w *Warden) waits() string {
	alive := 0
	for _, m := range w.host.Members {
		if m.Alive && !m.Left {
			alive++
		}
	}
	switch {
	case w.host.Node == "":
		return "the daemon has not said yet who this host is"
	case len(w.unsaid()) > 0:
		return "there are no witnesses yet, and nothing was heard from the lease process (shoal-lease.service) of " + strings.Join(w.unsaid(), ", ")
	case w.host.Joins && w.host.Expect == 0:
		return "there are no witnesses yet, and nobody said how many hosts are to begin them: set bootstrap_expect in [lease] to the number of all hosts, on each of them"
	case w.host.Joins:
		return fmt.Sprintf("there are no witnesses yet: they begin once exactly %d hosts (bootstrap_expect) are in sight; now it is %d", w.host.Expect, alive)
	}
	return "this host's witness is about to begin"
}

func (w *Warden) minority(port *string) string {
	known := w.seats
	if w.seat != nil {
		known = nil
		if servers, err := w.seat.Servers(); err == nil {
			for _, s := range servers {
				known = append(known, s.ID)
			}
		}
	}
	var lost []string
	for _, id := range known {
		i := slices.IndexFunc(w.host.Members, func(m tenure.Member) bool { return m.Name == nodeOf(id) })
		if i < 0 || !w.host.Members[i].Alive || w.host.Members[i].Left {
			lost = append(lost, nodeOf(id))
		}
	}
	text := "no majority of the witnesses can be reached"
	if len(known) > 0 {
		text += fmt.Sprintf(": of %d, this host does not see %s", len(known), strings.Join(lost, ", "))
		if len(lost) == 0 {
			text = fmt.Sprintf("no majority of the %d witnesses answers, though their hosts are in sight", len(known))
		}
	}
	if port != nil && *port != "" {
		text += " (" + *port + ")"
	}
	return text
}
