package image

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// space keeps a layer from filling the disk of the whole host: writing ends while some is left.
type space struct {
	fd   int
	left int64 // bytes until the next look
}

const (
	inodeCost    = 4 << 10 // what a file takes beside its content, about
	spaceStep    = 64 << 20
	spaceReserve = 512 << 20 // or 5 % of a small disk
)

func (s *space) take(n int) error {
	if s.left -= int64(n); s.left > 0 {
		return nil
	}
	s.left = spaceStep
	var fs unix.Statfs_t
	if err := unix.Fstatfs(s.fd, &fs); err != nil {
		return err
	}
	return enough(fs, spaceStep)
}

// enough says whether the file system can take n more bytes and keep its reserve.
func enough(fs unix.Statfs_t, n int64) error {
	reserve := min(spaceReserve, int64(fs.Blocks)*fs.Bsize/20)
	if int64(fs.Bavail)*fs.Bsize < n+reserve || fs.Files > 0 && fs.Ffree < 1000 {
		return fmt.Errorf("it would leave less than %d MiB or 1000 inodes free: %w", reserve>>20, syscall.ENOSPC)
	}
	return nil
}
