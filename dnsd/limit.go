package dnsd

import (
	"net"
	"net/netip"
	"sync"
)

// limit counts what is going on, for each client and in all. Beyond either
// bound there is no more room, so that one client cannot take all of it.
type limit struct {
	each, all int

	mu    sync.Mutex
	busy  map[netip.Addr]int
	total int
}

func newLimit(each, all int) *limit {
	return &limit{each: each, all: all, busy: map[netip.Addr]int{}}
}

// enter reports whether there was room; if so, leave must follow.
func (l *limit) enter(client netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy[client] >= l.each || l.total >= l.all {
		return false
	}
	l.busy[client]++
	l.total++
	return true
}

func (l *limit) leave(client netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.busy[client]--; l.busy[client] == 0 {
		delete(l.busy, client)
	}
}

// limitedListener closes connections of strangers and those beyond the limit.
type limitedListener struct {
	net.Listener
	limit   *limit
	allowed func(netip.Addr) bool
}

func (l limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		client := addrOf(c.RemoteAddr())
		if l.allowed(client) && l.limit.enter(client) {
			return &limitedConn{Conn: c, leave: sync.OnceFunc(func() { l.limit.leave(client) })}, nil
		}
		c.Close()
	}
}

type limitedConn struct {
	net.Conn
	leave func()
}

func (c *limitedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// addrOf is the address without zone, IPv4 as such.
func addrOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
