package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// streamTime is how long a client may take to open its streams.
const streamTime = 30 * time.Second

// arrived is a stream that the client opened, and when that was answered.
type arrived struct {
	httpstream.Stream
	replied <-chan struct{}
}

func upgradeSPDY(w http.ResponseWriter, r *http.Request, q url.Values) (*streamSet, error) {
	protocol, err := httpstream.Handshake(r, w, []string{protocolV4, protocolV3, protocolV2, protocolV1})
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return nil, fmt.Errorf("upgrade to SPDY: %w", err)
	}
	// As many as there are kinds of streams: a client that opens more is cut.
	streams := make(chan arrived, 5)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, replied <-chan struct{}) error {
		select {
		case streams <- arrived{s, replied}:
			return nil
		default:
			return errors.New("too many streams")
		}
	})
	if conn == nil {
		return nil, errors.New("upgrade to SPDY: refused")
	}
	set := &streamSet{protocol: protocol, gone: conn.CloseChan(), close: func() { conn.Close() }}
	if err := set.collect(streams, wantedStreams(q, protocol)); err != nil {
		conn.Close()
		return nil, err
	}
	return set, nil
}

// wantedStreams is the streams that a client of that protocol opens.
func wantedStreams(q url.Values, protocol string) map[string]bool {
	tty := boolParameter(q, "tty")
	return map[string]bool{
		v1.StreamTypeError:  true,
		v1.StreamTypeStdin:  boolParameter(q, "stdin"),
		v1.StreamTypeStdout: boolParameter(q, "stdout"),
		v1.StreamTypeStderr: boolParameter(q, "stderr") && !tty,
		v1.StreamTypeResize: tty && (protocol == protocolV4 || protocol == protocolV3),
	}
}

// collect waits for the streams.
func (set *streamSet) collect(streams <-chan arrived, wanted map[string]bool) error {
	late := time.NewTimer(streamTime)
	defer late.Stop()
	missing := 0
	for _, yes := range wanted {
		if yes {
			missing++
		}
	}
	for ; missing > 0; missing-- {
		select {
		case s := <-streams:
			kind := s.Headers().Get(v1.StreamType)
			if !wanted[kind] {
				return fmt.Errorf("stream %q was not announced", kind)
			}
			wanted[kind] = false
			set.take(kind, s)
			<-s.replied
		case <-set.gone:
			return errors.New("the client left before it opened its streams")
		case <-late.C:
			return errors.New("the client did not open its streams in time")
		}
	}
	return nil
}

func (set *streamSet) take(kind string, s httpstream.Stream) {
	switch kind {
	case v1.StreamTypeError:
		set.fault = s
	case v1.StreamTypeStdin:
		set.stdin = s
	case v1.StreamTypeStdout:
		set.stdout = s
	case v1.StreamTypeStderr:
		set.stderr = s
	case v1.StreamTypeResize:
		set.resize = s
	}
}
