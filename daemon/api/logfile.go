package api

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

func logPath(dir string, attempt int) string {
	return filepath.Join(dir, strconv.Itoa(attempt)+".log")
}

// attemptsIn is the attempts that left a log, oldest first.
func attemptsIn(dir string) []int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // no log yet, or no longer
	}
	var list []int
	for _, e := range entries {
		number, _, ok := strings.Cut(e.Name(), ".log")
		if n, err := strconv.Atoi(number); ok && err == nil && n >= 0 {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func newerAttempt(path string) bool {
	attempt, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".log"))
	all := attemptsIn(filepath.Dir(path))
	return len(all) > 0 && all[len(all)-1] > attempt
}

// containerLog reads an attempt's log over its rotated files, oldest first.
// What it holds open it has not read to the end.
type containerLog struct {
	path string   // of the file that is written now
	past []string // rotated files that come next, oldest first
	read string   // stamp of the newest rotated file that is read or held open

	file   *os.File // nil before the first and between two files
	live   bool     // file was the one at path when it was opened
	r      *bufio.Reader
	zipped bool
	part   []byte // an unfinished line at the end of a live file
}

func openLog(path string) (*containerLog, error) {
	c := &containerLog{path: path}
	rotated, err := c.rotated()
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	c.past = rotated
	return c, nil
}

// Close lets go of the file that is held.
func (c *containerLog) Close() error {
	if c.file == nil {
		return nil
	}
	err := c.file.Close()
	c.file, c.r, c.live = nil, nil, false
	return err
}

// rotated is the rotated files after the one that was read last, oldest first.
// A file that is just being compressed counts once.
func (c *containerLog) rotated() ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(c.path))
	if err != nil {
		return nil, err
	}
	prefix := filepath.Base(c.path) + "."
	byStamp := map[string]string{}
	for _, e := range entries {
		stamp, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok || !e.Type().IsRegular() || strings.HasSuffix(stamp, ".tmp") {
			continue
		}
		plain, zipped := strings.CutSuffix(stamp, ".gz")
		if plain <= c.read || zipped && byStamp[plain] != "" {
			continue
		}
		byStamp[plain] = filepath.Join(filepath.Dir(c.path), e.Name())
	}
	stamps := make([]string, 0, len(byStamp))
	for stamp := range byStamp {
		stamps = append(stamps, stamp)
	}
	slices.Sort(stamps)
	paths := make([]string, len(stamps))
	for i, stamp := range stamps {
		paths[i] = byStamp[stamp]
	}
	return paths, nil
}

func (c *containerLog) stamp(path string) string {
	return strings.TrimSuffix(strings.TrimPrefix(path, c.path+"."), ".gz")
}

// next opens the file that follows, and says whether there is one.
func (c *containerLog) next() (bool, error) {
	c.Close()
	for len(c.past) > 0 {
		path := c.past[0]
		c.past = c.past[1:]
		c.read = c.stamp(path)
		err := c.open(path)
		if errors.Is(err, fs.ErrNotExist) && !strings.HasSuffix(path, ".gz") {
			err = c.open(path + ".gz") // compressed since it was listed
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // so old that it was deleted
		}
		return err == nil, err
	}
	err := c.open(c.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	// It may have been rotated since the list was made: then others come first.
	missed, listErr := c.rotated()
	if listErr != nil {
		return false, listErr
	}
	if len(missed) > 0 {
		c.past = missed
		return c.next()
	}
	c.live = err == nil
	return c.live, nil // not live: rotated, and not yet made again
}

// open refuses anything but a regular file: a log's place may hold a FIFO that
// would block.
func (c *containerLog) open(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|oNoFollow, 0)
	if err != nil {
		return err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return fmt.Errorf("%s is not a regular file", path)
	}
	c.file, c.zipped = f, strings.HasSuffix(path, ".gz")
	return c.begin()
}

// begin reads the open file from where its offset is.
func (c *containerLog) begin() error {
	c.r, c.part = bufio.NewReaderSize(c.file, 32<<10), nil
	if !c.zipped {
		return nil
	}
	z, err := gzip.NewReader(c.r)
	if err != nil {
		c.Close()
		return fmt.Errorf("read compressed log: %w", err)
	}
	c.r = bufio.NewReaderSize(z, 32<<10)
	return nil
}

// maxLine is where a line is cut: a hostile log may have none that ends.
const maxLine = 1 << 20

// line is the next line of the open file, with its newline. io.EOF comes with
// nothing; what a live file ends with is kept until the rest of it is written.
func (c *containerLog) line() ([]byte, error) {
	b, err := c.r.ReadSlice('\n')
	if err == nil && len(c.part) == 0 {
		return b, nil
	}
	c.part = append(c.part, b...)
	switch {
	case err == nil, errors.Is(err, bufio.ErrBufferFull) && len(c.part) >= maxLine:
		whole := c.part
		c.part = c.part[len(c.part):]
		return whole, nil
	case errors.Is(err, bufio.ErrBufferFull):
		return c.line()
	}
	return nil, err
}

// rest is an unfinished line: of a file that will not grow any more.
func (c *containerLog) rest() []byte {
	b := c.part
	c.part = nil
	return b
}

// drain writes what the open file holds.
func (c *containerLog) drain(ctx context.Context, out *logWriter) error {
	for ctx.Err() == nil {
		b, err := c.line()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		if err := out.line(b); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// finish writes an unfinished last line.
func (c *containerLog) finish(out *logWriter) error {
	if b := c.rest(); len(bytes.TrimSpace(b)) > 0 {
		return out.line(b)
	}
	return nil
}

// copyAll writes what there is.
func (c *containerLog) copyAll(ctx context.Context, out *logWriter) error {
	for {
		if c.file == nil {
			if ok, err := c.next(); !ok {
				return err
			}
		}
		err := c.drain(ctx, out)
		if err == nil {
			err = c.finish(out)
		}
		if errors.Is(err, errLimit) {
			return nil
		}
		if err != nil || c.live {
			return err
		}
		c.Close()
	}
}
