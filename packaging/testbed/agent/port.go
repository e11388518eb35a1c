package agent

import (
	"io"
	"net"
	"os"
	"sync"
)

// portListener hands out its one connection, then waits for its end.
type portListener struct {
	conn portConn
	once sync.Once
}

func (l *portListener) Accept() (net.Conn, error) {
	var c net.Conn
	l.once.Do(func() { c = l.conn })
	if c != nil {
		return c, nil
	}
	<-l.conn.closed
	return nil, io.EOF
}

func (l *portListener) Close() error   { return l.conn.Close() }
func (l *portListener) Addr() net.Addr { return portAddr(l.conn.Name()) }

// portConn is a device file as a connection.
type portConn struct {
	*os.File
	closed chan struct{}
}

func (c portConn) Close() error {
	defer close(c.closed)
	return c.File.Close()
}

func (c portConn) LocalAddr() net.Addr  { return portAddr(c.Name()) }
func (c portConn) RemoteAddr() net.Addr { return portAddr(c.Name()) }

type portAddr string

func (portAddr) Network() string  { return "port" }
func (a portAddr) String() string { return string(a) }
