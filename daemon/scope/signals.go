package scope

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// jobSignals is a connection to systemd itself that lets no signals through but
// the one that a job has ended. systemd sends all that it has to whoever is
// connected to it directly, whether asked for or not: some 30 signals for each
// pod, and decoding them took a seventh of the daemon's processor time.
type jobSignals struct {
	net.Conn
	in    *bufio.Reader
	begun bool // the handshake is over: from here on there are messages
	left  int64
}

func newJobSignals(conn net.Conn) *jobSignals {
	return &jobSignals{Conn: conn, in: bufio.NewReader(conn)}
}

const (
	maxMessage  = 128 << 20 // D-Bus specification, "Message Format"
	fixedHeader = 16        // of a message, up to its header fields
	typeSignal  = 4
)

var (
	endOfHandshake = []byte("BEGIN\r\n")
	wantedSignal   = []byte("\x0a\x00\x00\x00JobRemoved\x00") // as a string in a little-endian message
)

func (c *jobSignals) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil && !c.begun && bytes.Equal(b, endOfHandshake) {
		c.begun = true
		err = c.awaitRead()
	}
	return n, err
}

// awaitRead returns when systemd has read all that was sent. A message that it
// reads together with the end of the handshake it overlooks until another one
// comes (systemd 252; bus_socket_read_auth).
func (c *jobSignals) awaitRead() error {
	socket, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(callTimeout); ; time.Sleep(50 * time.Microsecond) {
		var unread int
		var ioctl error
		if err := raw.Control(func(fd uintptr) { unread, ioctl = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil {
			return err
		}
		switch {
		case ioctl != nil:
			return os.NewSyscallError("ioctl SIOCOUTQ", ioctl)
		case unread == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("systemd did not read for %v", callTimeout)
		}
	}
}

func (c *jobSignals) Read(b []byte) (int, error) {
	for c.begun && c.left == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	if c.begun {
		b = b[:min(int64(len(b)), c.left)]
	}
	n, err := c.in.Read(b)
	if c.begun {
		c.left -= int64(n)
	}
	return n, err
}

// next finds out how long the next message is, or leaves it out.
func (c *jobSignals) next() error {
	fixed, err := c.in.Peek(fixedHeader)
	if err != nil {
		return err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if fixed[0] == 'B' {
		order = binary.BigEndian
	}
	fields := int64(order.Uint32(fixed[12:])+7) &^ 7
	size := fixedHeader + fields + int64(order.Uint32(fixed[4:]))
	if size > maxMessage {
		return fmt.Errorf("systemd sent a message of %d bytes", size)
	}
	// What has other byte order or a header larger than the buffer goes through.
	if fixed[0] == 'l' && fixed[1] == typeSignal && fixedHeader+fields <= int64(c.in.Size()) {
		header, err := c.in.Peek(int(fixedHeader + fields))
		if err != nil {
			return err
		}
		if !bytes.Contains(header, wantedSignal) {
			_, err := c.in.Discard(int(size))
			return err
		}
	}
	c.left = size
	return nil
}
