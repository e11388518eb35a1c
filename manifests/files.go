package manifests

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// files is what a Reader needs of the file system. Tests put faults in it that
// root does not meet on a real one.
type files interface {
	ReadDir(dir string) ([]fs.DirEntry, error)
	Stat(path string) (stamp, error)
	// Read returns a regular file's bytes. A FIFO or device is never opened,
	// nor more than MaxFileSize+1 bytes read.
	Read(path string) (content, error)
}

// stamp is what tells a changed file from an unchanged one without reading it.
type stamp struct {
	Mode      fs.FileMode
	ID        fileID
	Size      int64
	ModTime   time.Time
	ChangedAt time.Time // ctime: it moves even when mtime is set back, as by cp -p or git
}

type fileID struct{ Dev, Inode uint64 }

// content is a file as it was read.
type content struct {
	Data  []byte
	Stamp stamp
	Busy  bool // somebody has it open for writing, or it changed while it was read
}

type osFiles struct{}

func (osFiles) ReadDir(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }

func (osFiles) Stat(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stampOf(info), nil
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{Mode: info.Mode(), Size: info.Size(), ModTime: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.ID = fileID{uint64(st.Dev), st.Ino}
		s.ChangedAt = time.Unix(st.Ctim.Unix())
	}
	return s
}

func (o osFiles) Read(path string) (content, error) {
	// Opening a device may act on it, so look first; O_NONBLOCK because
	// what is there may be another thing by the time that it is opened.
	before, err := o.Stat(path)
	if err != nil {
		return content{}, err
	}
	if !before.Mode.IsRegular() {
		return content{}, &notRegular{before.Mode}
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return content{}, err
	}
	defer f.Close()
	opened, err := f.Stat()
	if err != nil {
		return content{}, err
	}
	c := content{Stamp: stampOf(opened)}
	if !c.Stamp.Mode.IsRegular() {
		return content{}, &notRegular{c.Stamp.Mode}
	}
	if c.Stamp.Size > MaxFileSize {
		return c, &tooLarge{c.Stamp.Size}
	}
	c.Busy = beingWritten(f)
	if c.Data, err = io.ReadAll(io.LimitReader(f, MaxFileSize+1)); err != nil {
		return content{}, fmt.Errorf("read %s: %w", path, err)
	}
	after, err := f.Stat()
	if err != nil {
		return content{}, err
	}
	c.Busy = c.Busy || stampOf(after) != c.Stamp
	return c, nil
}

// beingWritten says whether any process has f open for writing. A read lease
// is refused with EAGAIN exactly then (fcntl(2), F_SETLEASE); other errors mean
// that the file system or our rights do not allow to ask.
func beingWritten(f *os.File) bool {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		// Give it back before anybody who wants to write has to wait.
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return errors.Is(err, unix.EAGAIN)
}

type notRegular struct{ mode fs.FileMode }

func (e *notRegular) Error() string {
	what := "a special file"
	switch t := e.mode.Type(); {
	case t&fs.ModeNamedPipe != 0:
		what = "a FIFO"
	case t&fs.ModeSocket != 0:
		what = "a socket"
	case t&fs.ModeDevice != 0:
		what = "a device"
	case t&fs.ModeDir != 0:
		what = "a directory"
	}
	return what + ", not a regular file"
}

type tooLarge struct{ size int64 }

func (e *tooLarge) Error() string {
	return fmt.Sprintf("the file has %d MiB; more than %d MiB are not read", e.size>>20, MaxFileSize>>20)
}
