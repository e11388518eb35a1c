package peer

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// A peer that is gone without a word (a power cut, a cut cable) is noticed by
// TCP itself, on streams that say nothing for hours as on those that are written
// to. HTTP/1.1 has no pings, and following a log must not need any.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}

// userTimeout is how long what was sent may stay unacknowledged (RFC 5482,
// tcp(7)): keep-alive probes are not sent meanwhile, and the kernel alone would
// try for a quarter of an hour. As long as the probes take.
const userTimeout = 25 * time.Second

// watchOver has a connection end soon after its other end.
func watchOver(c net.Conn) {
	tcp, is := c.(*net.TCPConn)
	if !is {
		return
	}
	_ = tcp.SetKeepAliveConfig(keepAlive) // without it, a loss is noticed later
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
		})
	}
}

// watchful is a listener whose connections are watched over.
type watchful struct{ net.Listener }

func (l watchful) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		watchOver(c)
	}
	return c, err
}
