package warden

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shoal-project/shoal/daemon/lease"
	"github.com/shoal-project/shoal/daemon/tenure"
	"github.com/shoal-project/shoal/daemon/witness"
)

// seat is a witness that runs in this process.
type seat struct {
	*witness.Witness
	streams *streams
	count   int // how many witnesses there are, as far as it knows
}

// A witness' id in raft is its node and its store, and so is its address: where
// the node is, is looked up for each connection, so a host may change its address.
func idOf(node, store string) string { return node + "/" + store }

func nodeOf(id string) string {
	node, _, _ := strings.Cut(id, "/")
	return node
}

func storeOf(id string) string {
	_, store, _ := strings.Cut(id, "/")
	return store
}

// follow brings the seat to what it should be, again and again.
func (w *Warden) follow(ctx context.Context) {
	tick := time.NewTicker(w.config.Budget.Renew)
	defer tick.Stop()
	defer w.stand()
	wake(w.told)
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.told:
		case <-tick.C:
		}
		w.port.follow(w.snapshot())
		w.look()
		w.carry(ctx)
	}
}

// snapshot is what the daemon said last.
func (w *Warden) snapshot() tenure.Host {
	if h := w.members.Load(); h != nil {
		return *h
	}
	return tenure.Host{}
}

// look starts or ends this host's witness.
func (w *Warden) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.changed()
	if w.host.Node == "" {
		return
	}
	if w.seat == nil {
		w.begin()
	} else if ended, err := w.seat.Ended(); ended && err == nil {
		w.unseat()
		return
	} else if ended {
		w.trouble = err.Error()
		return
	}
	if w.seat == nil {
		return
	}
	if servers, err := w.seat.Servers(); err == nil {
		w.seat.count = len(servers)
	}
	w.meetRivals()
}

// begin starts the witness that the disk has, or one that is to be.
func (w *Warden) begin() {
	switch {
	case w.disk.Log != "" && w.disk.Removed:
		if !w.others() {
			w.trouble = "this host has left its witnesses, and knows no others: to have it be its own one, remove " + w.config.Dir + " and restart shoal-lease.service"
		} else {
			w.trouble = ""
		}
		return
	case w.disk.Log != "":
		w.sit(nil)
		return
	}
	if len(w.unsaid()) > 0 {
		return // what they say decides
	}
	how, with := lease.Begin(w.self(), w.host.Joins, w.host.Expect, w.candidates())
	switch how {
	case lease.Alone:
		if err := w.adopt(mint(time.Now())); err != nil {
			w.trouble = err.Error()
			return
		}
	case lease.Bootstrap:
		if !slices.ContainsFunc(with, func(m lease.Member) bool { return m.ID == w.self().ID }) {
			return // those of them that are to will add this one
		}
		if err := w.adopt(together(with)); err != nil {
			w.trouble = err.Error()
			return
		}
	default:
		return
	}
	var servers []witness.Server
	for _, m := range with {
		servers = append(servers, witness.Server{ID: m.ID, Address: m.ID, Votes: true})
	}
	w.config.Log.Info("the witnesses begin", "log", w.disk.Log, "witnesses", len(servers))
	w.sit(servers)
}

// mint names the log of a host that begins alone: by when, since of two such
// logs the later one gives way.
func mint(now time.Time) string { return fmt.Sprintf("%011x", now.UnixMilli()) + newName()[:6] }

// together names the log of hosts that begin together: each of them gives it the
// same name.
func together(with []lease.Member) string {
	h := sha256.New()
	for _, m := range with {
		h.Write([]byte(strconv.Itoa(len(m.ID)) + m.ID))
	}
	return "0" + hex.EncodeToString(h.Sum(nil))[:16]
}

// adopt gives the disk the name of a log, before the log is.
func (w *Warden) adopt(log string) error {
	next := w.disk
	next.Log, next.Removed = log, false
	if err := next.write(w.config.Dir); err != nil {
		return fmt.Errorf("begin a witness: %w", err)
	}
	w.disk = next
	return nil
}

// sit starts the witness: the first ones with the servers that are the witnesses.
func (w *Warden) sit(first []witness.Server) {
	id := idOf(w.host.Node, w.disk.Store)
	s := newStreams(w, id, w.disk.Log)
	wit, err := witness.Start(witness.Config{
		ID: id, Address: id, Dir: w.config.Dir, Streams: s, Budget: w.config.Budget, Clock: w.config.Clock, Log: w.config.Log, Election: w.config.Election,
	})
	if err != nil {
		w.trouble = "this host's witness does not start: " + err.Error()
		w.config.Log.Error("this host's witness does not start", "err", err)
		return
	}
	if first != nil {
		if err := wit.Bootstrap(first); err != nil {
			w.trouble = "the witnesses do not begin: " + err.Error()
			w.config.Log.Error("the witnesses do not begin", "err", err)
			_ = wit.Close() // the error that matters is Bootstrap's
			return
		}
	}
	w.trouble = ""
	w.seat = &seat{Witness: wit, streams: s}
}

// stand ends the witness with the process.
func (w *Warden) stand() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closeSeat()
}

func (w *Warden) closeSeat() {
	if w.seat == nil {
		return
	}
	if err := w.seat.Close(); err != nil {
		w.config.Log.Error("can't close the witnesses' log", "err", err)
	}
	w.seat = nil
}

// unseat is after the others have taken the seat away.
func (w *Warden) unseat() {
	w.config.Log.Info("this host is no witness any more", "log", w.disk.Log)
	w.closeSeat()
	next := w.disk
	next.Removed = true
	if err := next.write(w.config.Dir); err != nil {
		w.config.Log.Error("can't note that this host is no witness any more", "err", err)
	}
	w.disk = next
}

// meetRivals finds whether this host's log gives way to another one.
func (w *Warden) meetRivals() {
	w.giving, w.trouble = false, ""
	mine := lease.Rival{Log: w.disk.Log, Seats: w.seat.count}
	for _, m := range w.host.Members {
		if m.Name == w.host.Node || m.Left || m.Log == "" || m.Log == w.disk.Log {
			continue
		}
		switch lease.Meet(mine, lease.Rival{Log: m.Log, Seats: m.Seats}) {
		case lease.Apart:
			w.trouble = fmt.Sprintf("%s is of other witnesses (log %s) than this host (log %s), and both have several: stop shoal-lease.service and remove "+
				"%s on the hosts of one of them, once nothing exclusive runs there", m.Name, m.Log, w.disk.Log, w.config.Dir)
		case lease.Past:
			w.pass(m)
			return
		case lease.Give:
			w.give(m)
			return
		}
	}
}

// give gives up this host's log for another one, once nobody holds anything of it.
func (w *Warden) give(to tenure.Member) {
	known := w.seat.Known()
	for key := range known.State.Claims {
		if c, held := known.State.Holder(key); held {
			w.trouble = fmt.Sprintf("this host is its own witness, and %s has others: it joins them once %s, which %s holds, is released (stop that pod, or remove it)", to.Name, key, c.Node)
			return
		}
	}
	w.giving = true // its own lease process resigns
	if err := lease.Yield(known.State); err != nil {
		w.trouble = "this host goes over to the witnesses of " + to.Name
		return
	}
	w.pass(to)
}

// pass ends this host's witness for another log. It has nothing to say any more.
func (w *Warden) pass(to tenure.Member) {
	w.config.Log.Info("this host's witness gives way", "log", w.disk.Log, "to", to.Log, "node", to.Name)
	w.closeSeat()
	next, err := w.disk.empty(w.config.Dir)
	if err != nil {
		w.trouble = err.Error()
		w.config.Log.Error("can't give up the witnesses' log", "err", err)
	}
	w.disk, w.giving = next, false
	w.leader, w.seats = "", nil
}

// admitStream is whether a stream of a witness that calls is for this host's
// one, which is started where it does not run. It is an error, in words, if not.
func (w *Warden) admitStream(h hello, from string) (*streams, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case nodeOf(h.From) != from:
		return nil, fmt.Errorf("node %s speaks as witness %q", from, h.From)
	case h.To != idOf(w.host.Node, w.disk.Store):
		return nil, fmt.Errorf("witness %s is no more: this is %s", h.To, idOf(w.host.Node, w.disk.Store))
	case w.disk.Log != "" && w.disk.Log != h.Log:
		return nil, fmt.Errorf("this host has the witnesses' log %s, not %s", w.disk.Log, h.Log)
	case w.seat != nil:
		return w.seat.streams, nil
	case w.disk.Log == "" && !validName(h.Log):
		return nil, errors.New("a witnesses' log without a name")
	}
	if w.disk.Log == "" || w.disk.Removed {
		if err := w.adopt(h.Log); err != nil {
			return nil, err
		}
	}
	if w.sit(nil); w.seat == nil {
		return nil, errors.New(w.trouble)
	}
	w.changed()
	return w.seat.streams, nil
}

func validName(log string) bool {
	return log != "" && len(log) <= 40 && strings.Trim(log, "0123456789abcdefghijklmnopqrstuvwxyz-") == ""
}
