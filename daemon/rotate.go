package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/record"
)

const (
	// rotationPatience is how long a rotation waits for a member that is alive and
	// does not answer, or that was alive a moment ago.
	rotationPatience = time.Minute
	// rotationPause is how long it waits before it asks again.
	rotationPause = 500 * time.Millisecond
	// finishPeriod is how often a node looks whether old keys have been kept for long
	// enough.
	finishPeriod = 10 * time.Minute

	reasonKeyRotated = "ClusterKeyRotated"
)

// errNothingToFinish says that all members hold one key.
var errNothingToFinish = errors.New("no rotation is under way: `shoal key rotate` begins one")

// RotateKey has all members that are alive go over to a new cluster key, and
// says how far it is. It goes on where an earlier one was stopped. With finish
// the old keys are dropped, which must have been replaced before.
func (d *Daemon) RotateKey(ctx context.Context, finish bool, say func(string)) error {
	if !d.fleet.rotating.TryLock() {
		return apierrors.NewTooManyRequests("this node rotates the key already", 1)
	}
	defer d.fleet.rotating.Unlock()
	r := rotation{Daemon: d, begin: !finish, finish: finish, say: say}
	return r.run(ctx)
}

// rotation is one run of a rotation on the node that leads it.
type rotation struct {
	*Daemon
	begin, finish bool
	say           func(string)
	target        string            // the new key's name, once it is known
	failed        map[string]string // why a member has not done its part, by its name
	waits         time.Time         // since when there is no progress
	done          int               // steps that members took
}

// away is a member that is not alive.
type away struct {
	name  string
	since time.Time // zero: it was not seen since this daemon started
}

func (a away) String() string {
	if a.since.IsZero() {
		return a.name + " was not seen since shoald started here"
	}
	return a.name + " is not in sight since " + a.since.UTC().Format(time.RFC3339)
}

// run takes steps until there is none left to take.
func (r *rotation) run(ctx context.Context) error {
	for {
		alive, gone := r.keyMembers()
		if len(alive) == 0 {
			return apierrors.NewServiceUnavailable(errKeysApart.Error())
		}
		step := cluster.Next(r.askHeld(ctx, alive), r.finish, r.Now())
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if step.Do != cluster.Await { // who is silent may hold what the others do, and no rotation be under way
			r.target = cmp.Or(step.Key, r.target)
		}
		switch {
		case step.Do == cluster.Begin && r.target != "":
			r.conclude(fmt.Sprintf("key %s is the only one on %s", r.target, strings.Join(alive, ", ")), gone)
			return nil
		case step.Do == cluster.Begin && !r.begin:
			return apierrors.NewBadRequest(errNothingToFinish.Error())
		case step.Do == cluster.Keep:
			r.conclude(fmt.Sprintf("key %s is in use on %s. The old one is trusted for a day yet: `shoal key rotate --finish` ends that",
				step.Key, strings.Join(alive, ", ")), gone)
			return nil
		}
		if err := r.take(ctx, step, gone); err != nil {
			return err
		}
	}
}

// take takes a step, or waits a moment where it can't be taken now.
func (r *rotation) take(ctx context.Context, step cluster.Step, gone []away) error {
	before := r.done
	hold := ""
	switch step.Do {
	case cluster.Begin:
		if err := r.make(ctx); err != nil {
			return err
		}
	case cluster.Await:
		hold = "no answer from " + r.why(step.At)
	case cluster.Use:
		if late := slices.DeleteFunc(slices.Clone(gone), func(a away) bool { return a.since.IsZero() || r.Now().Sub(a.since) > rotationPatience }); len(late) > 0 {
			hold = late[0].String() // it may be starting again, and would be left behind
			break
		}
		r.ask(ctx, step, keyAsk{Do: cluster.Use, ID: step.Key}, "uses key "+step.Key)
	case cluster.Trust:
		text, err := r.textOf(ctx, step)
		if err != nil {
			return err
		}
		r.ask(ctx, step, text, "trusts key "+step.Key)
	case cluster.Drop:
		if hold = r.unsealed(step, gone); hold == "" {
			r.ask(ctx, step, keyAsk{Do: cluster.Drop, Old: step.Old}, "dropped "+strings.Join(step.Old, ", "))
		}
	}
	switch {
	case r.done > before:
		r.waits = time.Time{}
		return nil
	case r.waits.IsZero():
		r.waits = r.Now()
		if hold == "" {
			hold = r.why(step.At)
		}
		r.say("waiting: " + hold)
	case r.Now().Sub(r.waits) > rotationPatience:
		return apierrors.NewServiceUnavailable(fmt.Sprintf("the rotation has stopped before its step %q, and no host has lost another by it: %s. "+
			"`shoal key rotate` goes on from here", step.Do, r.why(step.At)))
	}
	select {
	case <-time.After(rotationPause):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// why is what keeps members from doing their part.
func (r *rotation) why(at []string) string {
	var words []string
	for _, name := range at {
		if why := r.failed[name]; why != "" {
			words = append(words, name+" ("+why+")")
		} else {
			words = append(words, name)
		}
	}
	return strings.Join(words, ", ")
}

// make makes the new key, in this host's file first.
func (r *rotation) make(ctx context.Context) error {
	key := cluster.NewKey()
	_, err := r.keyStep(ctx, r.Config.Node, keyAsk{Do: cluster.Trust, Text: key.Text(), Made: r.Now()})
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	r.target = key.ID()
	r.done++
	r.say(r.Config.Node + ": made key " + key.ID() + ", and trusts it")
	return nil
}

// textOf is what has a member trust the new key, which this host or another one
// holds.
func (r *rotation) textOf(ctx context.Context, step cluster.Step) (ask keyAsk, err error) {
	answer, err := r.askKeys(ctx, step.From, keyAsk{Tell: step.Key})
	if err != nil || answer.Text == "" {
		return ask, apierrors.NewServiceUnavailable(fmt.Sprintf("node %s has the new key, and does not tell it: %v", step.From, err))
	}
	for _, k := range answer.Held {
		if k.ID == step.Key {
			ask = keyAsk{Do: cluster.Trust, Text: answer.Text, Made: k.Made}
		}
	}
	return ask, nil
}

// ask has members take a step, one after the other.
func (r *rotation) ask(ctx context.Context, step cluster.Step, what keyAsk, done string) {
	for _, name := range step.At {
		if _, err := r.askKeys(ctx, name, what); err != nil {
			r.failed[name] = strings.TrimSpace(err.Error())
			continue
		}
		r.done++
		r.say(name + ": " + done)
	}
}

// unsealed is why old keys can't be dropped yet: a member that is alive has not
// sealed its Secrets anew. Those of members that are away can't be waited for.
func (r *rotation) unsealed(step cluster.Step, gone []away) (hold string) {
	ring := r.fleet.ring.Load()
	if ring == nil {
		return errKeysApart.Error()
	}
	sole, is := ring.Sole(step.Key)
	if !is {
		return "this host does not hold the new key"
	}
	var lost []string
	for _, name := range r.sealedOtherwise(sole) {
		if slices.ContainsFunc(gone, func(a away) bool { return a.name == name }) {
			lost = append(lost, name)
			continue
		}
		return "Secrets of node " + name + " are not sealed anew yet"
	}
	switch {
	case len(lost) > 0 && !r.finish:
		return "Secrets of " + strings.Join(lost, ", ") + " are sealed with the old key, and that host is away"
	case len(lost) > 0 && r.waits.IsZero():
		r.say("Secrets that only files of " + strings.Join(lost, ", ") + " declare can't be read until that host is back with the new key")
	}
	return ""
}

// conclude says how it ended, and what is to be done for hosts that were away.
func (r *rotation) conclude(how string, gone []away) {
	r.say(how)
	for _, a := range gone {
		r.say(fmt.Sprintf("%s, and has not got the new key: copy %s from here to it (mode 0600) and run `systemctl reload shoald` there, or `shoal node forget %s`",
			a, r.Config.Cluster.KeyFile, a.name))
	}
	if r.done > 0 {
		_ = r.do(context.Background(), func() { r.events.Normal(r.nodeReference(), reasonKeyRotated, "%s", how) })
	}
}

// keyMembers are the members that are alive, this one among them, and those that
// are not and were not forgotten. None is alive where this host is with no others.
func (d *Daemon) keyMembers() (alive []string, gone []away) {
	g := d.fleet.gossip.Load()
	if g == nil {
		return nil, nil
	}
	named := map[string]bool{d.Config.Node: true}
	alive = []string{d.Config.Node}
	for _, m := range g.Members() {
		switch {
		case named[m.Name]:
			continue
		case m.Status == gossip.Alive || m.Status == gossip.Leaving:
			alive = append(alive, m.Name)
		default:
			gone = append(gone, away{m.Name, m.Since})
		}
		named[m.Name] = true
	}
	d.records.Read(func(records map[string]*record.Record) {
		for name := range records {
			if !named[name] {
				gone = append(gone, away{name: name})
			}
		}
	})
	slices.Sort(alive)
	slices.SortFunc(gone, func(a, b away) int { return strings.Compare(a.name, b.name) })
	return alive, gone
}

// askHeld asks members what they hold; who does not say has nil.
func (r *rotation) askHeld(ctx context.Context, names []string) cluster.Members {
	r.failed = make(map[string]string)
	held := make(cluster.Members)
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() {
			answer, err := r.askKeys(ctx, name, keyAsk{})
			mu.Lock()
			defer mu.Unlock()
			held[name] = answer.Held
			if err != nil {
				held[name], r.failed[name] = nil, strings.TrimSpace(err.Error())
			}
		})
	}
	all.Wait()
	return held
}

// finishKeys drops old keys when they have been kept for long enough: the first
// member that is alive does so.
func (d *Daemon) finishKeys(ctx context.Context) {
	tick := time.NewTicker(finishPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		alive, _ := d.keyMembers()
		if len(alive) == 0 || alive[0] != d.Config.Node || !d.fleet.rotating.TryLock() {
			continue
		}
		r := rotation{Daemon: d, say: func(text string) { d.Log.Info("the cluster's key is rotated", "line", text) }}
		if step := cluster.Next(r.askHeld(ctx, alive), false, d.Now()); step.Do == cluster.Drop {
			if err := r.run(ctx); err != nil {
				d.Log.Warn("old cluster keys are still trusted", "err", err)
			}
		}
		d.fleet.rotating.Unlock()
	}
}
