package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	"github.com/shoal-project/shoal/daemon/api"
)

// bars draws a line for each part of a pull: redrawn in place on a terminal,
// elsewhere one line per phase.
type bars struct {
	mu    sync.Mutex // what is sent and what is answered tell of it at once
	w     io.Writer
	width int // of the terminal; 0: none
	parts []string
	state map[string]api.Progress
	drawn int // lines on the screen
}

func newBars(w io.Writer) *bars {
	b := &bars{w: w, state: map[string]api.Progress{}}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			b.width = max(width, 40)
		}
	}
	return b
}

func (b *bars) show(p api.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before, known := b.state[p.Part]
	if !known {
		b.parts = append(b.parts, p.Part)
	}
	b.state[p.Part] = p
	if b.width > 0 {
		io.WriteString(b.w, b.frame())
		return
	}
	if !known || before.Phase != p.Phase {
		fmt.Fprintf(b.w, "%s: %s %s\n", clean(p.Part), clean(p.Phase), amount(p))
	}
}

// frame is what redraws all lines.
func (b *bars) frame() string {
	var s strings.Builder
	if b.drawn > 0 {
		fmt.Fprintf(&s, "\x1b[%dA", b.drawn)
	}
	for _, part := range b.parts {
		s.WriteString("\r\x1b[2K" + line(b.state[part], b.width) + "\n")
	}
	b.drawn = len(b.parts)
	return s.String()
}

// line is one part: name, phase, bar, bytes; never wider than the terminal.
func line(p api.Progress, width int) string {
	head := fmt.Sprintf("%-14.14s %-10.10s ", clean(p.Part), clean(p.Phase))
	tail := " " + amount(p)
	room := min(width-len(head)-len(tail)-3, 50)
	if p.Total <= 0 || room < 5 {
		return (head + tail)[:min(len(head)+len(tail), width-1)]
	}
	full := int(float64(room) * min(1, max(0, float64(p.Done)/float64(p.Total))))
	return head + "[" + strings.Repeat("=", full) + strings.Repeat(" ", room-full) + "]" + tail
}

func amount(p api.Progress) string {
	switch {
	case p.Total > 0:
		return bytesText(p.Done) + "/" + bytesText(p.Total)
	case p.Done > 0:
		return bytesText(p.Done)
	}
	return ""
}

// clean keeps escape sequences in an archive's file names off the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// reading tells how much of an archive was read: what comes after is unpacking.
type reading struct {
	io.Reader
	now, told api.Progress
	show      func(api.Progress)
}

// watched is in, an archive of so many bytes (0: nobody knows), whose reading is shown.
func watched(in io.Reader, name string, size int64, show func(api.Progress)) io.Reader {
	return &reading{Reader: in, now: api.Progress{Part: name, Phase: "reading", Total: size}, show: show}
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.now.Done += int64(n)
	if err == io.EOF {
		r.now.Phase = "unpacking"
	}
	// A hundredth is all that a bar can show; of a stream, each megabyte.
	step := r.now.Total / 100
	if r.now.Total == 0 {
		step = 1 << 20
	}
	if r.now.Phase != r.told.Phase || r.now.Done-r.told.Done > step {
		r.told = r.now
		r.show(r.now)
	}
	return n, err
}
