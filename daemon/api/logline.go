package api

import (
	"bytes"
	"errors"
	"io"
	"time"
)

// logLine is a line of a CRI log: "TIME STREAM TAG TEXT\n". A P tag says that
// the container's line goes on in the next one, so no newline follows.
type logLine struct {
	time    []byte // RFC 3339 with nanoseconds, as it stands in the file
	stream  []byte
	text    []byte
	partial bool
}

// parseLine takes a line apart. Lines that are no CRI lines are shown as they
// are: better odd than lost.
func parseLine(b []byte) (logLine, bool) {
	b = bytes.TrimSuffix(b, []byte("\n"))
	stamp, rest, ok1 := bytes.Cut(b, []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tags, text, _ := bytes.Cut(rest, []byte(" ")) // an empty line may lack its blank
	if !ok1 || !ok2 || len(tags) == 0 || tags[0] != 'F' && tags[0] != 'P' {
		return logLine{text: b}, false
	}
	return logLine{time: stamp, stream: stream, text: text, partial: tags[0] == 'P'}, true
}

var errLimit = errors.New("the client has as many bytes as it asked for")

// logWriter writes the lines that are asked for.
type logWriter struct {
	w     io.Writer
	opts  logOptions
	left  int64 // bytes; negative: no limit
	begun bool  // the last line was partial, and its text is written
	buf   []byte
}

func (l *logWriter) line(b []byte) error {
	line, ok := parseLine(b)
	if ok && !l.wanted(line) {
		return nil
	}
	l.buf = l.buf[:0]
	if l.opts.timestamps && ok && !l.begun {
		l.buf = append(append(l.buf, line.time...), ' ')
	}
	l.buf = append(l.buf, line.text...)
	if !line.partial {
		l.buf = append(l.buf, '\n')
	}
	l.begun = line.partial
	if l.left >= 0 && int64(len(l.buf)) >= l.left {
		if _, err := l.w.Write(l.buf[:l.left]); err != nil {
			return err
		}
		l.left = 0
		return errLimit
	}
	if l.left >= 0 {
		l.left -= int64(len(l.buf))
	}
	_, err := l.w.Write(l.buf)
	return err
}

func (l *logWriter) wanted(line logLine) bool {
	if l.opts.stream != "" && string(line.stream) != l.opts.stream {
		return false
	}
	if l.opts.since.IsZero() {
		return true
	}
	t, err := time.Parse(time.RFC3339Nano, string(line.time))
	return err != nil || !t.Before(l.opts.since)
}
