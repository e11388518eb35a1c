package peer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/cluster"
)

// town is hosts that find each other by name.
type town map[string]string

func (m town) config(c *Config, _ *SetConfig) { c.Find = func(node string) string { return m[node] } }

func (m town) listens(t testing.TB, node string, h http.HandlerFunc) *host {
	t.Helper()
	host := listens(t, node, m.config)
	if h != nil {
		host.Answer(h)
	}
	m[node] = host.peer.Address
	return host
}

func ask(ctx context.Context, from *host, node, method, path string, body io.Reader) (string, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://anywhere"+path, body)
	if err != nil {
		return "", err
	}
	resp, err := from.RoundTrip(node, r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(b)), err
}

func TestARequestIsAnsweredByItsNode(t *testing.T) {
	m := town{}
	a := m.listens(t, "n1", nil)
	m.listens(t, "n2", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s of %s: %d bytes", r.Method, r.URL, Calling(r.Context()), len(b))
	})
	got, err := ask(t.Context(), a, "n2", "POST", "/api/v1/x?y=z", bytes.NewReader(make([]byte, 1<<20)))
	if want := "418 POST /api/v1/x?y=z of n1: 1048576 bytes"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// TestAnUpgradedStreamGoesBothWays: exec and port-forward take the connection
// over, and each direction may end by itself.
func TestAnUpgradedStreamGoesBothWays(t *testing.T) {
	m := town{}
	a := m.listens(t, "n1", nil)
	m.listens(t, "n2", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: loud\r\n\r\n")
		lines := bufio.NewScanner(rw)
		for lines.Scan() {
			fmt.Fprintln(conn, strings.ToUpper(lines.Text()))
		}
		fmt.Fprintln(conn, "BYE")
	})
	r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://x/exec", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "loud")
	resp, err := a.RoundTrip("n2", r)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	stream := resp.Body.(io.ReadWriteCloser)
	defer stream.Close()
	in := bufio.NewReader(stream)
	for _, word := range []string{"one", "two"} {
		fmt.Fprintln(stream, word)
		if got, err := in.ReadString('\n'); got != strings.ToUpper(word)+"\n" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if err := stream.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(in); string(rest) != "BYE\n" {
		t.Errorf("after the end of input: %q, %v", rest, err)
	}
}

// TestAStreamEndsWithEitherEnd: with the client that goes away, and with the
// daemon that answers.
func TestAStreamEndsWithEitherEnd(t *testing.T) {
	m := town{}
	a := m.listens(t, "n1", nil)
	ended := make(chan struct{}, 2)
	answer := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "first")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		ended <- struct{}{}
	}
	m.listens(t, "n2", answer)
	follow := func(ctx context.Context, node string) *bufio.Reader {
		t.Helper()
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://x/log", nil)
		resp, err := a.RoundTrip(node, r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		in := bufio.NewReader(resp.Body)
		if got, err := in.ReadString('\n'); got != "first\n" {
			t.Fatalf("got %q, %v", got, err)
		}
		return in
	}
	ctx, leave := context.WithCancel(t.Context())
	follow(ctx, "n2")
	leave()
	<-ended

	c := stands(t, "n3", keyOf("n3"), m.config)
	c.Answer(http.HandlerFunc(answer))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m["n3"] = l.Addr().String()
	serving, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- c.Serve(serving, l) }()
	in := follow(t.Context(), "n3")
	stop()
	if rest, err := io.ReadAll(in); err == nil && len(rest) > 0 {
		t.Errorf("after its daemon ended: %q", rest)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	select {
	case <-ended: // Serve waits for it
	default:
		t.Error("Serve returned before its handler")
	}
}

// TestRequestsKeepRecordsFromNothing: a node has as many requests under way as
// it may, and exchanges all the same.
func TestRequestsKeepRecordsFromNothing(t *testing.T) {
	m := town{}
	a := m.listens(t, "n1", nil)
	b := m.listens(t, "n2", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	other := m.listens(t, "n3", nil)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	for range mostRequestsEach {
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://x/log", nil)
		resp, err := a.RoundTrip("n2", r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
	}
	if _, err := ask(ctx, a, "n2", "GET", "/log", nil); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "busy") {
		t.Errorf("one more than allowed: %v", err)
	}
	a.publish(t, "x", `1`)
	a.sync(t, b)
	same(t, a, b)
	quick, cancel := context.WithCancel(ctx)
	r, _ := http.NewRequestWithContext(quick, "GET", "http://x/log", nil)
	resp, err := other.RoundTrip("n2", r)
	if err != nil {
		t.Fatalf("another node: %v", err)
	}
	cancel()
	resp.Body.Close()
	leave()
	late, tick := time.After(10*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for {
		b.mu.Lock()
		n := len(b.asked)
		b.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("requests of nodes that went away are still counted")
		}
	}
}

func TestRequestsReachTheVeryNodeOrNobody(t *testing.T) {
	m := town{}
	var reached atomic.Int32
	count := func(http.ResponseWriter, *http.Request) { reached.Add(1) }
	a := m.listens(t, "n1", count)
	m.listens(t, "n2", nil) // it starts
	m.listens(t, "n3", count)
	elsewhere := cluster.ID{ID: "c2", Settled: true}
	c2 := listens(t, "n6", func(c *Config, s *SetConfig) {
		m.config(c, s)
		c.Cluster = func() cluster.ID { return elsewhere }
	})
	c2.Answer(http.HandlerFunc(count))
	m["n4"], m["n5"], m["n6"] = m["n3"], "127.0.0.1:1", c2.peer.Address
	stranger := stands(t, "n7", keyOf("n7"), func(c *Config, s *SetConfig) {
		m.config(c, s)
		c.Keyring = cluster.NewKeyring(cluster.Key{2})
	})
	impostor := stands(t, "n1", keyOf("another"), m.config)
	if _, err := ask(t.Context(), a, "n3", "GET", "/", nil); err != nil || reached.Load() != 1 { // n3 knows n1 from here on
		t.Fatal(err)
	}
	for _, tt := range []struct {
		from *host
		to   string
		is   error
		want string
	}{
		{a, "n2", ErrRefused, "node n2 is starting"},
		{a, "n4", nil, "node n3 answers at"},
		{a, "n5", nil, "connection refused"},
		{a, "n6", ErrRefused, "two clusters have met"},
		{a, "n9", ErrUnknown, "it is not in sight"},
		{stranger, "n3", nil, "does not hold this cluster's key"},
		{impostor, "n3", ErrRefused, "shoal node forget n1"},
	} {
		_, err := ask(t.Context(), tt.from, tt.to, "POST", "/", strings.NewReader("x"))
		if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s to %s: got %v, want %q", tt.from.config.Node, tt.to, err, tt.want)
		}
	}
	if n := reached.Load(); n != 1 {
		t.Errorf("%d requests were answered that must not be", n-1)
	}
}

// TestARotationEndsRequests that came by a key that is dropped.
func TestARotationEndsRequests(t *testing.T) {
	m := town{}
	a := m.listens(t, "n1", nil)
	b := m.listens(t, "n2", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://x/log", nil)
	resp, err := a.RoundTrip("n2", r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := b.Use(cluster.NewKeyring(cluster.Key{2})); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the stream ended as if it had come to its end")
	}
	if _, err := ask(t.Context(), a, "n2", "GET", "/log", nil); err == nil {
		t.Error("a node with the old key is answered")
	}
}

// TestARotationDisturbsNothing: what is under way goes on while hosts trust the
// new key, use it, and drop the old one after it has come to its end.
func TestARotationDisturbsNothing(t *testing.T) {
	m := town{}
	before, fresh := cluster.Key{1}, cluster.Key{2}
	rings := []cluster.Keyring{cluster.NewKeyring(before, fresh), cluster.NewKeyring(fresh, before)}
	a := m.listens(t, "n1", nil)
	more := make(chan string)
	b := m.listens(t, "n2", func(w http.ResponseWriter, r *http.Request) {
		for text := range more {
			io.WriteString(w, text)
			http.NewResponseController(w).Flush()
		}
	})
	for _, e := range []*host{a, b} {
		if err := e.Use(cluster.NewKeyring(before)); err != nil {
			t.Fatal(err)
		}
	}
	r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://x/log", nil)
	go func() { more <- "0" }()
	resp, err := a.RoundTrip("n2", r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	read := func(want string) {
		t.Helper()
		b := make([]byte, 1)
		if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != want {
			t.Fatalf("got %q, %v, want %q", b, err, want)
		}
	}
	read("0")
	step := 0
	for _, ring := range rings {
		for _, e := range []*host{a, b} {
			if err := e.Use(ring); err != nil {
				t.Fatal(err)
			}
			step++
			text := string(rune('0' + step))
			more <- text
			read(text)
		}
	}
	close(more)
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Fatalf("the stream ended with %q, %v", rest, err)
	}
}
