package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Streams are those of a container's first process. With a terminal all output
// comes on Stdout.
type Streams struct {
	Stdin  io.Reader // nil, or read until it ends or Attach has returned; one last Read may be under way then
	Stdout io.Writer
	Stderr io.Writer
	Resize <-chan Size // for containers with a terminal
}

// Each packet from conmon begins with the stream it belongs to, and holds one
// read of at most STDIO_BUF_SIZE (conmon's src/config.h) beside it.
const (
	attachStdout = 2
	attachStderr = 3
	attachPacket = 32<<10 + 1
	attachInput  = 8 << 10 // what older conmons read of a packet; the rest would be lost
)

// Without their other methods, io.CopyBuffer uses its buffer.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// Attach connects to the container's first process, from now on, until the
// container or ctx ends. When Stdin ends, so does the container's, if it asked
// for stdinOnce.
func (r *Runtime) Attach(ctx context.Context, dir string, s Streams) error {
	conn, err := dialAttach(dir)
	if err != nil {
		return fmt.Errorf("attach to container: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if s.Stdin != nil {
		go func() { // not awaited: nothing ends a Read that the caller holds
			io.CopyBuffer(onlyWriter{conn}, onlyReader{s.Stdin}, make([]byte, attachInput))
			conn.CloseWrite()
		}()
	}
	if s.Resize != nil {
		resized, end := context.WithCancel(ctx)
		defer end()
		go forwardSizes(resized, dir, s.Resize)
	}
	err = copyPackets(conn, s)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("attach to container: %w", err)
	}
	return nil
}

func dialAttach(dir string) (*net.UnixConn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	// A socket's name has 107 bytes at most (unix(7)); a pod's path may have more.
	name := "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/attach"
	return net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: name, Net: "unixpacket"})
}

func copyPackets(conn *net.UnixConn, s Streams) error {
	buf := make([]byte, attachPacket)
	for {
		n, err := conn.Read(buf)
		if errors.Is(err, io.EOF) || err == nil && n == 0 {
			return nil
		}
		if errors.Is(err, unix.ECONNRESET) {
			return nil // conmon ended with input it had not read
		}
		if err != nil {
			return err
		}
		to := s.Stdout
		if buf[0] == attachStderr {
			to = s.Stderr
		} else if buf[0] != attachStdout {
			continue
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(buf[1:n]); err != nil {
			return err
		}
	}
}

func forwardSizes(ctx context.Context, dir string, sizes <-chan Size) {
	for {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-sizes:
			if !ok {
				return
			}
			control(dir, fmt.Sprintf("1 %d %d\n", s.Height, s.Width)) // a size that can't be set is no reason to end
		}
	}
}

// control writes one line to conmon's control FIFO (conmon's src/ctrl.c:
// message type, then two numbers).
func control(dir, line string) error {
	f, err := os.OpenFile(filepath.Join(dir, "ctl"), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err // ENXIO: nobody reads, conmon is gone
	}
	defer f.Close()
	_, err = f.WriteString(line)
	return err
}
