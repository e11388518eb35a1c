package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// seekTail makes the log begin n of the container's lines before its end: it
// reads the newest file, and older ones only where that has too few lines.
func (c *containerLog) seekTail(n int64) error {
	files := append(c.past, c.path)
	for i := len(files) - 1; i >= 0; i-- {
		err := c.open(files[i])
		if errors.Is(err, fs.ErrNotExist) && i > 0 {
			continue // rotated and not yet made again, or too old
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		skip, found, err := c.lastLines(n)
		if err != nil {
			return err
		}
		if found >= n || i == 0 {
			c.place(files, i)
			return c.rewind(skip)
		}
		n -= found
		c.Close()
	}
	return nil
}

// place notes that file i of those listed is open.
func (c *containerLog) place(files []string, i int) {
	c.past, c.read = nil, ""
	if c.live = files[i] == c.path; c.live {
		if i > 0 {
			c.read = c.stamp(files[i-1])
		}
		return
	}
	c.read = c.stamp(files[i])
	c.past = files[i+1 : len(files)-1]
}

// rewind goes back to the open file's beginning and skips that many physical
// lines. It stays with the file, which may have been renamed by now.
func (c *containerLog) rewind(skip int64) error {
	if _, err := c.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if err := c.begin(); err != nil {
		return err
	}
	for range skip {
		if _, err := c.line(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
	}
	return nil
}

// lastLines says how many physical lines come before the last n of the
// container's, and how many of these there are (at most n). A line that was
// written in parts is one.
func (c *containerLog) lastLines(n int64) (skip, found int64, err error) {
	var starts []int64 // of the last n lines, a ring
	var physical, whole int64
	fresh := true
	for {
		b, err := c.line()
		if errors.Is(err, io.EOF) {
			if len(bytes.TrimSpace(c.rest())) == 0 || !fresh {
				break
			}
			b = nil // an unfinished line counts
		} else if err != nil {
			return 0, 0, fmt.Errorf("read log: %w", err)
		}
		if fresh && n > 0 {
			if int64(len(starts)) < n {
				starts = append(starts, physical)
			} else {
				starts[whole%n] = physical
			}
			whole++
		}
		if b == nil {
			break
		}
		line, ok := parseLine(b)
		fresh = !ok || !line.partial
		physical++
	}
	switch {
	case n == 0:
		return physical, 0, nil
	case whole <= n:
		return 0, whole, nil
	}
	return starts[whole%n], n, nil
}
