package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	logQuiet = time.Minute // between lines of one kind
	logKinds = 64
)

// logAdapter makes slog lines of Serf's and memberlist's. Strangers can make
// them speak, so a kind of line comes once a minute, with how many were left out.
type logAdapter struct {
	to  *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	kinds map[string]*logKind
}

type logKind struct {
	last    time.Time
	skipped int
}

// Write takes one line, as log.Logger gives it.
func (a *logAdapter) Write(line []byte) (int, error) {
	level, text, is := readLine(string(bytes.TrimSpace(line)))
	if !is || !a.to.Enabled(context.Background(), level) {
		return len(line), nil
	}
	skipped, speak := a.turn(kindOf(text), a.now())
	switch {
	case !speak:
	case level == slog.LevelWarn:
		a.to.Warn("gossip: "+text, "left_out", skipped)
	default:
		a.to.Debug("gossip: "+text, "left_out", skipped)
	}
	return len(line), nil
}

// turn says whether a line of this kind may come, and how many did not since.
func (a *logAdapter) turn(kind string, now time.Time) (skipped int, speak bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kinds == nil {
		a.kinds = make(map[string]*logKind)
	}
	if a.kinds[kind] == nil && len(a.kinds) >= logKinds {
		kind = "" // all others are one kind
	}
	k := a.kinds[kind]
	if k == nil {
		k = &logKind{}
		a.kinds[kind] = k
	}
	if !k.last.IsZero() && now.Sub(k.last) < logQuiet {
		k.skipped++
		return 0, false
	}
	skipped = k.skipped
	k.last, k.skipped = now, 0
	return skipped, true
}

// told are lines of which Gossip itself says more: in Members, Conflicts and
// Refused, or in the errors that it returns.
var told = []string{
	"Conflicting address for", "Name conflict for", "Node name conflicts with", "EventMember", "ignoring alive message",
	"Refuting an alive message", // it would print tags byte by byte
	"Failed push/pull merge", "Shutdown without a Leave", "Stream connection", "Initiating push/pull",
	"failed to join", "Failed to join", "failed to resolve", "messageJoinType", "messageLeaveType", "messageUserEventType",
}

// refused are lines about packets and streams of somebody who has none of our
// keys, and what they mean.
var refused = []string{
	"Decrypt packet failed", "failed to receive", "discarding packet", "discarding stream", "UDP packet too short",
	"encryption is configured but",
}

// readLine takes "[LEVEL] who: text" apart. Its levels are not ours: what Serf
// calls an error is for the operator to know, since gossip goes on.
func readLine(line string) (level slog.Level, text string, is bool) {
	text = line
	level = slog.LevelWarn
	if name, rest, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(name, "[") {
		text = rest
		if name == "[DEBUG" || name == "[INFO" {
			level = slog.LevelDebug
		}
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "memberlist: "), "serf: ")
	for _, t := range told {
		if strings.HasPrefix(text, t) {
			return 0, "", false
		}
	}
	for _, r := range refused {
		if strings.HasPrefix(text, r) {
			return slog.LevelWarn, "a packet or stream that none of the cluster's keys opens was dropped: " + text, true
		}
	}
	return level, text, text != ""
}

// kindOf is what lines have in common that differ in names and numbers.
func kindOf(text string) string {
	if i := strings.IndexAny(text, "0123456789'\"("); i > 0 {
		text = text[:i]
	}
	return text[:min(len(text), 100)]
}
