package api

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// Channels of a websocket, by number.
const (
	channelStdin = iota
	channelStdout
	channelStderr
	channelError
	channelResize
)

func upgradeWebSocket(w http.ResponseWriter, r *http.Request, q url.Values) (*streamSet, error) {
	channels := []wsstream.ChannelType{
		wsstream.IgnoreChannel, wsstream.IgnoreChannel, wsstream.IgnoreChannel, wsstream.WriteChannel, wsstream.ReadChannel,
	}
	tty := boolParameter(q, "tty")
	stdin, stdout, stderr := boolParameter(q, "stdin"), boolParameter(q, "stdout"), boolParameter(q, "stderr") && !tty
	if stdin {
		channels[channelStdin] = wsstream.ReadChannel
	}
	if stdout {
		channels[channelStdout] = wsstream.WriteChannel
	}
	if stderr {
		channels[channelStderr] = wsstream.WriteChannel
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		"":                        {Binary: true, Channels: channels},
		protocolV1:                {Binary: true, Channels: channels},
		protocolV4:                {Binary: true, Channels: channels},
		protocolV5:                {Binary: true, Channels: channels},
		"base64." + protocolV1:    {Channels: channels},
		"v4.base64." + protocolV1: {Channels: channels},
	})
	// The library logs each connection's end as an error.
	quiet := klog.NewContext(r.Context(), logr.Discard())
	protocol, streams, err := conn.Open(w, r.WithContext(quiet))
	if err != nil {
		return nil, fmt.Errorf("upgrade to websocket: %w", err)
	}
	if protocol == "v4.base64."+protocolV1 {
		protocol = protocolV4
	}
	// All channels are closed when the connection is: the end of resize, which
	// no client closes, says that it is gone.
	set := &streamSet{
		protocol: protocol, fault: streams[channelError], resize: streams[channelResize],
		close: func() { conn.Close() },
	}
	if stdin {
		set.stdin = streams[channelStdin]
	}
	if stdout {
		set.stdout = streams[channelStdout]
	}
	if stderr {
		set.stderr = streams[channelStderr]
	}
	return set, nil
}
