package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/shoal-project/shoal/daemon/api"
)

// bars draws a line for each part of a pull: redrawn in place on a terminal,
// elsewhere one line per phase.
type bars struct {
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
