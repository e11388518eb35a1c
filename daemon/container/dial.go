package container

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// dialTime is how long a port on a loopback interface may take to answer: its
// queue of connections may be full.
const dialTime = 10 * time.Second

var loopbacks = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// DialLoopback connects to a TCP port of the loopback interface in a network
// namespace, as CRI runtimes do for port-forward: IPv4 first, then IPv6. An empty
// netns is the daemon's own. The error names both attempts.
func DialLoopback(ctx context.Context, netns string, port uint16) (conn net.Conn, err error) {
	dial := func() error {
		if netns != "" {
			if err := enter(netns); err != nil {
				return err
			}
		}
		// The address is no name and is one: it is this thread that makes the socket.
		d := net.Dialer{Timeout: dialTime}
		var errs []error
		for _, ip := range loopbacks {
			c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(ip, port).String())
			if err == nil {
				conn = c
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	if netns == "" {
		err = dial()
		return conn, err
	}
	err = onOwnThread(dial)
	return conn, err
}
