package bed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// CacheDir is where images and running beds lie: $SHOAL_TESTBED_CACHE or /var/cache/shoal-testbed.
func CacheDir() string {
	if dir := os.Getenv("SHOAL_TESTBED_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/shoal-testbed"
}

// recipe is how something in the cache is made. Its name and its text decide where it lies, so that a changed text
// makes a new entry.
type recipe struct {
	name  string
	text  string // everything that decides what comes out
	build func(ctx context.Context, dir string) error
}

func (r recipe) path() string {
	sum := sha256.Sum256([]byte(r.text))
	return filepath.Join(CacheDir(), r.name+"-"+hex.EncodeToString(sum[:6]))
}

// make returns the entry's directory and builds it first if it is missing. Of several processes that want the same
// entry one builds and the others wait.
func (r recipe) make(ctx context.Context, log *slog.Logger) (string, error) {
	path := r.path()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(CacheDir(), 0o700); err != nil {
		return "", err
	}
	lock, err := lockFile(ctx, path+".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	log.Info("building", "entry", filepath.Base(path))
	began := time.Now()
	partial := path + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return "", err
	}
	if err := os.MkdirAll(partial, 0o700); err != nil {
		return "", err
	}
	if err := r.build(ctx, partial); err != nil {
		return "", errors.Join(fmt.Errorf("build %s: %w", filepath.Base(path), err), os.RemoveAll(partial))
	}
	if err := os.Rename(partial, path); err != nil {
		return "", err
	}
	log.Info("built", "entry", filepath.Base(path), "seconds", time.Since(began).Seconds())
	return path, nil
}

// lockFile takes the lock on path, waiting for whoever has it. The lock ends with the file, or the process.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := tryLock(path)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return f, err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tryLock fails with EWOULDBLOCK when another process has the lock on path.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	mine, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if now, err := os.Stat(path); err != nil || !os.SameFile(mine, now) {
		// Whoever had the lock removed the file: what is locked here, nobody else would find.
		if err := f.Close(); err != nil {
			return nil, err
		}
		return tryLock(path)
	}
	return f, nil
}
