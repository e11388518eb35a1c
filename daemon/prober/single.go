package prober

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxHeaders bounds the headers of an answer, as net/http's Transport does.
const maxHeaders = 1 << 20

// single makes one plain HTTP/1.1 request over one connection, in the caller's
// goroutine. A Transport that keeps no connection does the same with two
// goroutines and twice the processor time.
type single struct{}

func (single) RoundTrip(r *http.Request) (*http.Response, error) {
	conn, err := dialer.DialContext(r.Context(), "tcp", r.URL.Host)
	if err != nil {
		return nil, err
	}
	// The deadline alone ends a probe in time; one that is called off before
	// ends by the connection's.
	stop := context.AfterFunc(r.Context(), func() { conn.SetDeadline(time.Unix(1, 0)) })
	res, err := exchange(conn, r)
	if err != nil {
		stop()
		conn.Close()
		if cause := r.Context().Err(); cause != nil {
			err = cause
		}
		return nil, err
	}
	res.Body.(*body).stop = stop
	return res, nil
}

var readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

// exchange sends the request and reads the answer up to its body.
func exchange(conn net.Conn, r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Close = true
	w := writers.Get().(*bufio.Writer)
	w.Reset(conn)
	err := errors.Join(r.Write(w), w.Flush())
	w.Reset(nil)
	writers.Put(w)
	if err != nil {
		return nil, err
	}
	headers := &io.LimitedReader{R: conn, N: maxHeaders}
	in := readers.Get().(*bufio.Reader)
	in.Reset(headers)
	res, err := http.ReadResponse(in, r)
	for err == nil && res.StatusCode >= 100 && res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
		res, err = http.ReadResponse(in, r)
	}
	if err != nil {
		in.Reset(nil)
		readers.Put(in)
		return nil, err
	}
	headers.N = 1 << 62
	res.Body = &body{ReadCloser: res.Body, conn: conn, in: in}
	return res, nil
}

var writers = sync.Pool{New: func() any { return bufio.NewWriter(nil) }}

// body is an answer's body, which holds its connection.
type body struct {
	io.ReadCloser // not closed: that would read it to its end
	conn          net.Conn
	in            *bufio.Reader
	stop          func() bool
	closed        bool
}

func (b *body) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	b.stop()
	err := b.conn.Close()
	b.in.Reset(nil)
	readers.Put(b.in)
	return err
}

func (b *body) Read(p []byte) (int, error) {
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.ReadCloser.Read(p)
}
