// Package agent runs commands inside a test host for someone outside it.
//
// It speaks HTTP/2 over whatever carries bytes into the host: a unix socket in a shared directory, or a virtio-serial
// port. One request is one command: its body carries the command line, standard input and window sizes, the answer's
// body carries both output streams and the exit code. Being started by the host's own systemd, the agent puts commands
// where the host's cgroups and D-Bus can see them, which processes entered from outside (nsenter) are not.
package agent

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Command is what to run in the host.
type Command struct {
	Args []string // the program, looked up in the host's PATH, and its arguments; required
	Env  []string // KEY=VALUE, added to a root login's environment
	Dir  string   // empty: /root
	TTY  *Size    // not nil: a terminal of this size; standard error then arrives with standard output
}

// Size is a terminal's size in characters.
type Size struct{ Rows, Cols uint16 }

// IO are the caller's ends of a command's streams. A nil Stdin is empty, a nil writer discards.
type IO struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size // new terminal sizes; only with Command.TTY
}

// The frames of a request and of an answer: one byte saying what, four bytes of length (big endian), the payload.
const (
	frameCommand = 'r' // to the host, first: Command as JSON
	frameStdin   = 'i' // to the host; empty: standard input ends
	frameResize  = 'w' // to the host: Size as JSON
	frameStdout  = 'o'
	frameStderr  = 'e'
	frameExit    = 'x' // from the host, last: the exit code as JSON
	frameFailed  = 'f' // from the host, last: why the command could not be started
)

// maxFrame bounds what one frame makes the reader allocate; writers stay far below.
const maxFrame = 1 << 20

// frameWriter writes whole frames; several goroutines may share it.
type frameWriter struct {
	mu    sync.Mutex
	w     io.Writer
	flush func()
}

func (f *frameWriter) write(kind byte, payload []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	head := [5]byte{kind}
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	if _, err := f.w.Write(append(head[:], payload...)); err != nil {
		return err
	}
	if f.flush != nil {
		f.flush()
	}
	return nil
}

func (f *frameWriter) writeJSON(kind byte, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.write(kind, payload)
}

// stream makes each Write one frame of a kind.
func (f *frameWriter) stream(kind byte) io.Writer { return frameStream{f, kind} }

type frameStream struct {
	f    *frameWriter
	kind byte
}

func (s frameStream) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n := min(len(p), maxFrame)
		if err := s.f.write(s.kind, p[:n]); err != nil {
			return written, err
		}
		written, p = written+n, p[n:]
	}
	return written, nil
}

func readFrame(r io.Reader) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxFrame {
		return 0, nil, fmt.Errorf("frame %q of %d bytes is longer than %d", head[0], size, maxFrame)
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, fmt.Errorf("frame %q of %d bytes: %w", head[0], size, err)
	}
	return head[0], payload, nil
}
