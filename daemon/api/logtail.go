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
	n = min(n, maxTail)
	files := append(c.past, c.path)
	for i := len(files) - 1; i >= 0; i-- {
		err := c.open(files[i])
		if errors.Is(err, fs.ErrNotExist) && i > 0 {
			continue // rotated and not yet made again, or too old
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		skip, ends, err := c.lastLines(n, i == len(files)-1)
		if err != nil {
			return err
		}
		if ends > n || i == 0 {
			c.place(files, i)
			return c.rewind(skip)
		}
		n -= ends
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

// maxTail is more lines than any log has, and small enough to count with.
const maxTail = 1 << 40

// lastLines says how many lines end in the open file, and how many physical
// ones come before the last n of them: 0 where n or fewer end in it. Then the
// first may have begun in the file before, for a line that was written in parts
// can be cut by a rotation. In the newest file one that has not ended counts.
func (c *containerLog) lastLines(n int64, newest bool) (skip, ends int64, err error) {
	var after []int64 // the physical line after each of the last n+1 ends, a ring
	var physical int64
	end := func() {
		if int64(len(after)) <= n {
			after = append(after, physical)
		} else {
			after[ends%(n+1)] = physical
		}
		ends++
	}
	ended := true
	for {
		b, err := c.line()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, 0, fmt.Errorf("read log: %w", err)
		}
		physical++
		line, ok := parseLine(b)
		if ended = !ok || !line.partial; ended {
			end()
		}
	}
	if rest := len(bytes.TrimSpace(c.rest())) > 0; newest && (rest || !ended) {
		if rest {
			physical++
		}
		end()
	}
	if ends > n {
		skip = after[ends%(n+1)]
	}
	return skip, ends, nil
}
