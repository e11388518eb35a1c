package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// How memberlist encrypts (net.go, security.go): a packet is VERSION NONCE TEXT
// TAG; a stream is encryptMsg, the length of what follows (4 bytes, big endian),
// and the same. Version 1 has no padding.
//
// The version is not authenticated. With version 0, memberlist takes away a
// padding that it does not check, and panics: whoever records one packet and
// changes its first byte would end the daemon, without any key. So nothing of
// another version reaches memberlist, and nothing that is empty inside.
const (
	sealedVersion = 1
	sealedMsg     = 10              // memberlist's encryptMsg
	sealedLeast   = 1 + 12 + 16 + 1 // version, nonce, tag, and a byte of text
	sealedHead    = 1 + 4 + 1       // of a stream, to the version
)

func sealedPacket(packet []byte) bool {
	return len(packet) >= sealedLeast && packet[0] == sealedVersion
}

func checkStream(head []byte) error {
	switch size := binary.BigEndian.Uint32(head[1:]); {
	case head[0] != sealedMsg:
		return errors.New("the stream is not encrypted")
	case size < sealedLeast || size > streamMost:
		return fmt.Errorf("a stream of %d bytes: no full exchange has so many", size)
	case head[5] != sealedVersion:
		return fmt.Errorf("the stream is encrypted in a way (%d) that no member uses", head[5])
	}
	return nil
}

// stream is a connection of which nothing is read that is not encrypted, and no
// more than a full exchange may have.
type stream struct {
	net.Conn
	left   int64
	head   []byte // read, checked, and not yet given to the reader
	seen   bool
	once   sync.Once
	closed func()
}

func sealedOnly(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return &stream{Conn: conn, left: streamMost, closed: func() {}}, nil
}

var errTooLarge = errors.New("more than a full exchange may have")

// Read is called by one goroutine at a time.
func (s *stream) Read(b []byte) (int, error) {
	if !s.seen {
		head := make([]byte, sealedHead)
		if _, err := io.ReadFull(s.Conn, head); err != nil {
			return 0, err // io.EOF if there was nothing
		}
		if err := checkStream(head); err != nil {
			return 0, err
		}
		s.seen, s.head = true, head
	}
	if len(s.head) > 0 {
		n := copy(b, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	if s.left <= 0 {
		return 0, errTooLarge
	}
	n, err := s.Conn.Read(b[:min(int64(len(b)), s.left)])
	s.left -= int64(n)
	return n, err
}

// Close makes room for another one.
func (s *stream) Close() error {
	s.once.Do(s.closed)
	return s.Conn.Close()
}
