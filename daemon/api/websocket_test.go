package api_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/shoal-project/shoal/daemon/view"
)

// dial opens a plain websocket, as a browser would.
func dial(t *testing.T, config *rest.Config, sub, query string, protocols ...string) *websocket.Conn {
	t.Helper()
	u := podURL(t, config, sub, query)
	u.Scheme = "ws"
	dialer := websocket.Dialer{Subprotocols: protocols}
	conn, resp, err := dialer.DialContext(t.Context(), u.String(), nil)
	if err != nil {
		t.Fatalf("%v: %+v", err, resp)
	}
	t.Cleanup(func() { conn.Close() })
	if len(protocols) > 0 && conn.Subprotocol() != protocols[0] {
		t.Errorf("%s speaks %q, not %q", sub, conn.Subprotocol(), protocols[0])
	}
	return conn
}

// channels reads until the server closes, and joins what came on each channel.
func channels(t *testing.T, conn *websocket.Conn) map[byte]string {
	t.Helper()
	got := make(map[byte]string)
	for {
		kind, b, err := conn.ReadMessage()
		if closed := (*websocket.CloseError)(nil); errors.As(err, &closed) {
			return got
		}
		if err != nil || kind != websocket.BinaryMessage || len(b) == 0 {
			t.Fatalf("message %d %q, %v", kind, b, err)
		}
		got[b[0]] += string(b[1:])
	}
}

func TestExecOverAPlainWebSocket(t *testing.T) {
	const stdin, stdout, stderr, fault, closing = 0, 1, 2, 3, 255
	for _, protocol := range []string{"v4.channel.k8s.io", "v5.channel.k8s.io"} {
		t.Run(protocol, func(t *testing.T) {
			_, config := tcp(t)
			conn := dial(t, config, "exec", "container=main&command=echo&command=remote+execution+test&stdout=1&stderr=1", protocol)
			got := channels(t, conn)
			var status metav1.Status
			if err := json.Unmarshal([]byte(got[fault]), &status); err != nil || status.Status != metav1.StatusSuccess {
				t.Errorf("status %q, %v", got[fault], err)
			}
			if got[stdout] != "remote execution test\n" || got[stderr] != "" {
				t.Errorf("got %q", got)
			}

			conn = dial(t, config, "exec", "command=sh&command=-c&command=exit+3&stdout=1&stderr=1", protocol)
			got = channels(t, conn)
			status = metav1.Status{}
			if err := json.Unmarshal([]byte(got[fault]), &status); err != nil || status.Reason != "NonZeroExitCode" || status.Details.Causes[0].Message != "3" {
				t.Errorf("status %q, %v", got[fault], err)
			}
		})
	}
	t.Run("stdin is closed by a message of version 5", func(t *testing.T) {
		_, config := tcp(t)
		conn := dial(t, config, "exec", "command=cat&stdin=1&stdout=1", "v5.channel.k8s.io")
		for _, message := range []string{"\x00a", "\x00b", "\xff\x00"} {
			if err := conn.WriteMessage(websocket.BinaryMessage, []byte(message)); err != nil {
				t.Fatal(err)
			}
		}
		if got := channels(t, conn); got[stdout] != "ab" {
			t.Errorf("got %q", got)
		}
	})
}

func TestLogsOverAWebSocket(t *testing.T) {
	c, config := tcp(t)
	dir := filepath.Join(c.Pods.LogDir(webPod(running)), "main")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 5000)
	write(t, dir+"/0.log", "2026-11-20T08:00:00Z stdout F container is alive\n2026-11-20T08:00:01Z stderr F "+long+"\n")
	want := "container is alive\n" + long + "\n"

	read := func(conn *websocket.Conn, enough int) (text string) {
		for first := true; enough < 0 || len(text) < enough; first = false {
			kind, b, err := conn.ReadMessage()
			if closed := (*websocket.CloseError)(nil); errors.As(err, &closed) {
				return text
			}
			if err != nil {
				t.Fatal(err)
			}
			if first && len(b) > 0 {
				t.Errorf("no sign of life, but %q", b)
			}
			if conn.Subprotocol() == "base64.binary.k8s.io" {
				if kind != websocket.TextMessage {
					t.Errorf("message of kind %d", kind)
				}
				if b, err = base64.StdEncoding.DecodeString(string(b)); err != nil {
					t.Fatal(err)
				}
			} else if kind != websocket.BinaryMessage {
				t.Errorf("message of kind %d", kind)
			}
			text += string(b)
		}
		return text
	}
	for _, protocols := range [][]string{nil, {"binary.k8s.io"}, {"base64.binary.k8s.io"}} {
		if got := read(dial(t, config, "log", "container=main", protocols...), -1); got != want {
			t.Errorf("%s: got %q", protocols, got)
		}
	}

	conn := dial(t, config, "log", "follow=true", "binary.k8s.io")
	if got := read(conn, len(want)); got != want {
		t.Errorf("followed: got %q", got)
	}
	c.View.Apply(view.Change{Key: webKey})
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseNoStatusReceived, websocket.CloseAbnormalClosure) {
		t.Errorf("the pod is gone, and the log ends with %v", err)
	}
}

// TestWebSocketsThatCantBe: the answer comes before or instead of the upgrade,
// and nothing hangs. Serve, which waits for handlers, would.
func TestWebSocketsThatCantBe(t *testing.T) {
	c, config := tcp(t)
	dir := filepath.Join(c.Pods.LogDir(webPod(running)), "main")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/0.log", "2026-11-20T08:00:00Z stdout F x\n")
	for _, test := range []struct {
		sub, protocol string
		code          int
	}{
		{"log?container=other", "binary.k8s.io", http.StatusBadRequest},
		{"log?", "v4.channel.k8s.io", http.StatusForbidden},
		{"exec?stdout=1", "v4.channel.k8s.io", http.StatusBadRequest},
		{"exec?command=a&stdout=1", "v9.channel.k8s.io", http.StatusForbidden},
	} {
		sub, query, _ := strings.Cut(test.sub, "?")
		u := podURL(t, config, sub, query)
		u.Scheme = "ws"
		dialer := websocket.Dialer{Subprotocols: []string{test.protocol}}
		conn, resp, err := dialer.DialContext(t.Context(), u.String(), nil)
		if err == nil {
			conn.Close()
		}
		if err == nil || resp == nil || resp.StatusCode != test.code {
			t.Errorf("%s as %s: %+v, %v", test.sub, test.protocol, resp, err)
		}
	}
}
