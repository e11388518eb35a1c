package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sys/unix"
)

// Retries of one blob from one registry. Progress resets the count: only a registry that gives nothing is given up.
const maxTries = 4

// retryDelay is how long to wait before try number tries+1, from 1 s to 8 s.
func retryDelay(tries int) time.Duration { return time.Second << min(tries, 3) }

// download brings a blob into downloads/ and returns it open, its digest checked, its offset 0. Bytes that are there
// from an earlier try are asked for no more. Several callers for one blob share the work.
func (s *Store) download(ctx context.Context, from []*client, d v1.Descriptor, progress func(done int64)) (*os.File, error) {
	unlock, err := s.blobs.lock(ctx, d.Digest.String())
	if err != nil {
		return nil, err
	}
	defer unlock()
	release, err := acquire(ctx, s.downloading)
	if err != nil {
		return nil, err
	}
	defer release()

	f, err := os.OpenFile(s.downloadFile(d.Digest), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	b := &blob{file: f, desc: d, sum: sha256.New(), progress: progress, delay: s.retryDelay, stall: s.stallAfter}
	if err := b.fetch(ctx, from); err != nil {
		if errors.Is(err, ErrInvalid) { // nothing to resume
			os.Remove(f.Name())
		}
		f.Close()
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (s *Store) downloadFile(digest v1.Hash) string { return s.path("downloads", digest.Hex) }

// blob is a download that may be partly there.
type blob struct {
	file     *os.File
	desc     v1.Descriptor
	sum      hash.Hash // of the first have bytes
	have     int64
	progress func(int64)
	delay    func(tries int) time.Duration
	stall    time.Duration
}

func (b *blob) fetch(ctx context.Context, from []*client) error {
	resumed, err := b.adopt(ctx)
	if err != nil {
		return err
	}
	err = b.fetchRest(ctx, from)
	if err != nil || b.valid() {
		return err
	}
	if !resumed {
		return invalidf("blob %s has another digest than its name: the registry is broken or lies", b.desc.Digest)
	}
	// What an earlier run left may be damaged by a power cut. Once more from the start.
	if err := b.restart(); err != nil {
		return err
	}
	if err := b.fetchRest(ctx, from); err != nil || b.valid() {
		return err
	}
	return invalidf("blob %s has another digest than its name: the registry is broken or lies", b.desc.Digest)
}

// adopt takes over what is in the file.
func (b *blob) adopt(ctx context.Context) (some bool, err error) {
	info, err := b.file.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	if info.Size() > b.desc.Size {
		return false, b.restart()
	}
	b.have, err = io.Copy(b.sum, &ctxReader{ctx, b.file})
	return true, err
}

func (b *blob) restart() error {
	b.sum.Reset()
	b.have = 0
	if err := b.file.Truncate(0); err != nil {
		return err
	}
	_, err := b.file.Seek(0, io.SeekStart)
	return err
}

func (b *blob) valid() bool { return hex.EncodeToString(b.sum.Sum(nil)) == b.desc.Digest.Hex }

// fetchRest tries each registry until all bytes are there.
func (b *blob) fetchRest(ctx context.Context, from []*client) error {
	var failed error
	for _, c := range from {
		err := b.fetchFrom(ctx, c)
		if err == nil || ctx.Err() != nil || diskFull(err) != nil {
			return err
		}
		failed = explain(c.host(), err)
	}
	return failed
}

func (b *blob) fetchFrom(ctx context.Context, c *client) error {
	for tries := 0; b.have < b.desc.Size; tries++ {
		before := b.have
		err := b.try(ctx, c)
		switch {
		case err == nil || ctx.Err() != nil:
			return errors.Join(err, context.Cause(ctx))
		case diskFull(err) != nil || !worthRetry(err):
			return err
		}
		if b.have > before {
			tries = 0
		}
		if tries+1 >= maxTries {
			return err
		}
		select {
		case <-time.After(b.delay(tries)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// worthRetry is about the same registry: a refusal stays one, a broken connection may not.
func worthRetry(err error) bool {
	var status *transport.Error
	if errors.As(err, &status) {
		return status.Temporary() || status.StatusCode == http.StatusRequestedRangeNotSatisfiable
	}
	return !errors.Is(err, ErrInvalid) && !errors.Is(err, errPlainHTTP)
}

// try makes one request and takes what it brings.
func (b *blob) try(ctx context.Context, c *client) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(headerTimeout+b.stall, func() { cancel(errStalled) })
	defer stalled.Stop()

	body, start, err := c.blobFrom(ctx, b.desc.Digest, b.have)
	var status *transport.Error
	if errors.As(err, &status) && status.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return errors.Join(err, b.restart())
	}
	if err != nil {
		return err
	}
	defer body.Close()
	if start != b.have {
		if err := b.restart(); err != nil {
			return err
		}
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := body.Read(buf)
		stalled.Reset(b.stall)
		if werr := b.write(buf[:n]); werr != nil {
			return werr
		}
		switch {
		case err == io.EOF && b.have < b.desc.Size:
			return io.ErrUnexpectedEOF
		case err == io.EOF:
			return nil
		case err != nil && errors.Is(context.Cause(ctx), errStalled):
			return errStalled
		case err != nil:
			return err
		}
	}
}

func (b *blob) write(p []byte) error {
	if b.have+int64(len(p)) > b.desc.Size {
		return invalidf("blob %s is longer than the %d bytes its manifest says", b.desc.Digest, b.desc.Size)
	}
	if _, err := b.file.Write(p); err != nil {
		return err
	}
	b.sum.Write(p)
	b.have += int64(len(p))
	b.progress(b.have)
	return nil
}

// roomFor refuses a download that the disk cannot take before it starts.
func (s *Store) roomFor(size int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return err
	}
	if err := enough(st, size); err != nil {
		return diskFull(err)
	}
	return nil
}

func hashOf(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}
