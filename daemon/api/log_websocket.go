package api

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"

	"golang.org/x/net/websocket"
)

// Subprotocols of a stream of bytes to a client, as of a log. Without one it is
// the first.
const (
	protocolBinary = "binary.k8s.io"
	protocolBase64 = "base64.binary.k8s.io"
)

// webSocketLog sends a log as a websocket's messages: an empty one as a sign of
// life, then each what was written at once. It ends the connection at the log's
// end. What the client sends is not looked at.
//
// The library's own Reader (wsstream) is not used: it never returns when the
// client asks for a subprotocol that there is none of.
func webSocketLog(w http.ResponseWriter, r *http.Request, send func(context.Context, *flushing) error) error {
	var err error
	websocket.Server{Handshake: chooseProtocol, Handler: func(ws *websocket.Conn) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		go func() {
			io.Copy(io.Discard, ws)
			cancel()
		}()
		messages := &webSocketMessages{Conn: ws, encoded: slices.Contains(ws.Config().Protocol, protocolBase64)}
		out := &flushing{w: messages, c: messages}
		if _, err = out.Write(nil); err == nil {
			err = send(ctx, out)
		}
		if ctx.Err() != nil {
			err = nil // the client has left
		}
	}}.ServeHTTP(w, r)
	return err
}

// chooseProtocol takes the first of the client's subprotocols that there is.
func chooseProtocol(c *websocket.Config, _ *http.Request) error {
	if len(c.Protocol) == 0 {
		return nil
	}
	for _, p := range c.Protocol {
		if p == protocolBinary || p == protocolBase64 {
			c.Protocol = []string{p}
			return nil
		}
	}
	return fmt.Errorf("requested protocol(s) are not supported: %v; supports %v", c.Protocol, []string{protocolBinary, protocolBase64})
}

// webSocketMessages makes each write one message.
type webSocketMessages struct {
	*websocket.Conn
	encoded bool // in base64, as text
}

func (m *webSocketMessages) Write(b []byte) (int, error) {
	var message any = slices.Clip(b)
	if m.encoded {
		message = base64.StdEncoding.EncodeToString(b)
	}
	if err := websocket.Message.Send(m.Conn, message); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Flush has nothing to do: messages are sent as they are written.
func (m *webSocketMessages) Flush() error { return nil }
