package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"

	"github.com/shoal-project/shoal/daemon/view"
)

// tcp serves a fake node on a loopback address, for client-go's streams.
func tcp(t *testing.T) (*client, *rest.Config) {
	t.Helper()
	c := newClient(t)
	c.View.Apply(view.Change{Key: webKey, Object: webPod(running)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	ctx := t.Context()
	go func() { served <- c.API.Serve(ctx, l) }()
	t.Cleanup(func() {
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c, &rest.Config{Host: "http://" + l.Addr().String()}
}

func podURL(t *testing.T, config *rest.Config, sub, query string) *url.URL {
	t.Helper()
	u, err := url.Parse(config.Host + "/api/v1/namespaces/default/pods/web/" + sub + "?" + query)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

type (
	executor func(*rest.Config, *url.URL) (remotecommand.Executor, error)
	dialer   func(*testing.T, *rest.Config) httpstream.Dialer
	// serving has the node that runs the pod web, and how to reach its API.
	serving func(*testing.T) (*client, *rest.Config)
)

// places are where a pod may run.
var places = map[string]serving{"here": tcp, "on another node": far}

// everywhere tests with a pod here and one on another node.
func everywhere[T any](t *testing.T, ways map[string]T, f func(*testing.T, serving, T)) {
	for place, at := range places {
		for name, way := range ways {
			t.Run(name+" "+place, func(t *testing.T) { f(t, at, way) })
		}
	}
}

// executors are client-go's ways to a command's streams.
var executors = map[string]executor{
	"SPDY": func(c *rest.Config, u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewSPDYExecutor(c, "POST", u)
	},
	"websocket": func(c *rest.Config, u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutor(c, "GET", u.String())
	},
}

func TestAttachGivesInputAndSeesOutput(t *testing.T) {
	everywhere(t, executors, func(t *testing.T, tcp serving, of executor) {
		_, config := tcp(t)
		executor, err := of(config, podURL(t, config, "attach", "container=main&stdin=true&stdout=true&stderr=true"))
		if err != nil {
			t.Fatal(err)
		}
		in := bytes.Repeat([]byte("0123456789abcde\x00"), 1<<16)
		var out bytes.Buffer
		err = executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: bytes.NewReader(in), Stdout: &out, Stderr: io.Discard})
		if err != nil || !bytes.Equal(out.Bytes(), in) {
			t.Errorf("%v; got %d bytes back, want the %d given", err, out.Len(), len(in))
		}
	})
}

// sizeQueue is a terminal that is resized once.
type sizeQueue chan *remotecommand.TerminalSize

func (q sizeQueue) Next() *remotecommand.TerminalSize { return <-q }

func TestAttachEndsWithItsClientAndPassesSizesOn(t *testing.T) {
	everywhere(t, executors, func(t *testing.T, tcp serving, of executor) {
		c, config := tcp(t)
		executor, err := of(config, podURL(t, config, "attach", "stdout=true&tty=true"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, leave := context.WithCancel(t.Context())
		sizes := make(sizeQueue, 1)
		sizes <- &remotecommand.TerminalSize{Width: 101, Height: 37}
		r, w := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			ended <- executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: w, Tty: true, TerminalSizeQueue: sizes})
		}()
		line := make([]byte, 64)
		if n, err := r.Read(line); err != nil || string(line[:n]) != "no input\n" {
			t.Errorf("output: %q, %v", line[:n], err)
		}
		eventually(t, func() error {
			if got := fmt.Sprint(c.Pods.Sizes()); got != "[{101 37}]" {
				return fmt.Errorf("sizes: %s", got)
			}
			return nil
		})
		leave()
		close(sizes)
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the client ended with %v", err)
		}
		eventually(t, func() error { // Serve waits for handlers too, and would hang
			if n := c.Pods.Attached(); n != 0 {
				return fmt.Errorf("%d attached", n)
			}
			return nil
		})
	})
}

// eventually waits for a condition.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	late := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal(err)
		}
	}
}

func TestStreamsThatCantBe(t *testing.T) {
	c, _ := tcp(t)
	over := webPod(ended)
	over.Name, over.Status.Phase = "over", v1.PodSucceeded
	key := webKey
	key.Name = "over"
	c.View.Apply(view.Change{Key: key, Object: over})
	for path, want := range map[string]string{
		"web/attach":                      "400 you must specify at least 1 of stdin, stdout, stderr",
		"web/attach?stdout=1&container=x": "400 container x is not valid for pod web",
		"web/attach?stdout=1":             "400 exec and attach need an upgrade to websocket or SPDY/3.1",
		"over/attach?stdout=1":            `400 container "main" in pod "over" is not running`,
		"none/attach?stdout=1":            `404 pods "none" not found`,
		"web/portforward":                 "400 port-forward needs an upgrade to websocket or SPDY/3.1",
		"over/portforward":                "400 unable to forward port because pod is not running. Current status=Succeeded",
		"none/portforward":                `404 pods "none" not found`,
	} {
		for _, method := range []string{"GET", "POST"} {
			if got := c.status(method, "/api/v1/namespaces/default/pods/"+path, ""); got != want {
				t.Errorf("%s %s: got %q, want %q", method, path, got, want)
			}
		}
	}
}

// dialers are client-go's ways to a port.
var dialers = map[string]dialer{
	"SPDY": func(t *testing.T, c *rest.Config) httpstream.Dialer {
		transport, upgrader, err := spdy.RoundTripperFor(c)
		if err != nil {
			t.Fatal(err)
		}
		return spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", podURL(t, c, "portforward", ""))
	},
	"websocket": func(t *testing.T, c *rest.Config) httpstream.Dialer {
		d, err := portforward.NewSPDYOverWebsocketDialer(podURL(t, c, "portforward", ""), c)
		if err != nil {
			t.Fatal(err)
		}
		return d
	},
}

// forward forwards a local port to one of the pod's, as kubectl does, and
// returns the local one.
func forward(t *testing.T, d httpstream.Dialer, port string) string {
	t.Helper()
	ready, stop, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	f, err := portforward.NewOnAddresses(d, []string{"127.0.0.1"}, []string{":" + port}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- f.ForwardPorts() }()
	t.Cleanup(func() {
		close(stop)
		<-ended
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	ports, err := f.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local)
}

// serveTCP is a server in the "pod": it answers each connection with f.
func serveTCP(t *testing.T, f func(*net.TCPConn)) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c.(*net.TCPConn))
			}()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

func TestManyForwardedConnectionsAtOnceCarryTheirOwnBytes(t *testing.T) {
	everywhere(t, dialers, func(t *testing.T, tcp serving, dialer dialer) {
		_, config := tcp(t)
		// The answer comes only after the request has ended: half-closed connections work.
		port := serveTCP(t, func(c *net.TCPConn) {
			all, err := io.ReadAll(c)
			if err == nil {
				c.Write(bytes.ToUpper(all))
			}
		})
		addr := forward(t, dialer(t, config), port)
		var wait sync.WaitGroup
		for i := range 30 {
			wait.Go(func() {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				sent := strings.Repeat(fmt.Sprintf("connection %d\n", i), 5000)
				io.WriteString(c, sent)
				c.(*net.TCPConn).CloseWrite()
				got, err := io.ReadAll(c)
				if err != nil || string(got) != strings.ToUpper(sent) {
					t.Errorf("connection %d: %v, %d bytes of %d", i, err, len(got), len(sent))
				}
			})
		}
		wait.Wait()
	})
}

func TestARefusedPortIsToldOnTheErrorStream(t *testing.T) {
	everywhere(t, dialers, func(t *testing.T, tcp serving, dialer dialer) {
		_, config := tcp(t)
		conn, _, err := dialer(t, config).Dial("portforward.k8s.io")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fault, data := pair(t, conn, "1", "1") // port 1: nobody listens
		got, err := io.ReadAll(fault)
		want := "error forwarding port 1 to pod default/web: dial tcp 127.0.0.1:1: connect: connection refused"
		if err != nil || string(got) != want {
			t.Errorf("error stream: got %q (%v), want %q", got, err, want)
		}
		if got, err := io.ReadAll(data); err != nil || len(got) != 0 {
			t.Errorf("data stream: %q, %v", got, err)
		}
		// The others go on.
		port := serveTCP(t, func(c *net.TCPConn) { io.WriteString(c, "hello") })
		fault, data = pair(t, conn, port, "2")
		if got, _ := io.ReadAll(data); string(got) != "hello" {
			t.Errorf("after a refused one: got %q", got)
		}
		data.Close() // until then the connection is half open
		if got, _ := io.ReadAll(fault); len(got) != 0 {
			t.Errorf("after a refused one: error %q", got)
		}
	})
}

// pair opens the streams of one connection.
func pair(t *testing.T, conn httpstream.Connection, port, id string) (fault, data httpstream.Stream) {
	t.Helper()
	open := func(kind string) httpstream.Stream {
		s, err := conn.CreateStream(http.Header{v1.StreamType: {kind}, v1.PortHeader: {port}, v1.PortForwardRequestIDHeader: {id}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	fault = open(v1.StreamTypeError)
	fault.Close()
	return fault, open(v1.StreamTypeData)
}

func TestOddStreamsAreRefusedOneByOne(t *testing.T) {
	_, config := tcp(t)
	conn, _, err := dialers["SPDY"](t, config).Dial("portforward.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, h := range []http.Header{
		{}, {v1.StreamType: {"data"}, v1.PortHeader: {"80"}},
		{v1.StreamType: {"other"}, v1.PortHeader: {"80"}, v1.PortForwardRequestIDHeader: {"1"}},
		{v1.StreamType: {"data"}, v1.PortHeader: {"0"}, v1.PortForwardRequestIDHeader: {"1"}},
		{v1.StreamType: {"data"}, v1.PortHeader: {"65536"}, v1.PortForwardRequestIDHeader: {"1"}},
	} {
		if _, err := conn.CreateStream(h); err == nil {
			t.Errorf("%v was taken", h)
		}
	}
	port := serveTCP(t, func(c *net.TCPConn) { io.WriteString(c, "hello") })
	_, data := pair(t, conn, port, "2")
	if got, _ := io.ReadAll(data); string(got) != "hello" {
		t.Errorf("after those: got %q", got)
	}
}

func TestConnectionsEndWithTheirClient(t *testing.T) {
	everywhere(t, dialers, func(t *testing.T, tcp serving, dialer dialer) {
		for how, leave := range map[string]func(httpstream.Connection, httpstream.Stream){
			"closes":            func(c httpstream.Connection, _ httpstream.Stream) { c.Close() },
			"resets one stream": func(_ httpstream.Connection, s httpstream.Stream) { s.Reset() },
		} {
			t.Run(how, func(t *testing.T) {
				_, config := tcp(t)
				gone := make(chan struct{})
				port := serveTCP(t, func(c *net.TCPConn) {
					for { // a pod that talks for ever, and does not listen
						if _, err := io.WriteString(c, strings.Repeat("x", 1000)); err != nil {
							close(gone)
							return
						}
					}
				})
				conn, _, err := dialer(t, config).Dial("portforward.k8s.io")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_, data := pair(t, conn, port, "1")
				if _, err := io.ReadFull(data, make([]byte, 10000)); err != nil {
					t.Fatal(err)
				}
				leave(conn, data)
				select {
				case <-gone:
				case <-time.After(30 * time.Second):
					t.Error("the connection into the pod is still there")
				}
			})
		}
	})
}

func TestEphemeralContainersAreOnlyAdded(t *testing.T) {
	c := newClient(t)
	const pods = "/api/v1/namespaces/default/pods"
	if got := c.status("POST", pods, `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"main","image":"x"}]}}`, "application/json"); got != "201" {
		t.Fatal(got)
	}
	patch := func(sub, text, kind string) string {
		t.Helper()
		return c.status("PATCH", pods+"/p"+sub, text, kind)
	}
	const strategic, jsonPatch = "application/strategic-merge-patch+json", "application/json-patch+json"
	const look = `{"spec":{"ephemeralContainers":[{"name":"look","image":"y","targetContainerName":"main"}]}}`
	for _, step := range []struct{ sub, text, kind, want string }{
		{"", look, strategic, "422 "},
		{"/ephemeralcontainers", look, strategic, "200"},
		{"/ephemeralcontainers", look, strategic, "200"}, // again: nothing changes
		{"/ephemeralcontainers", `{"metadata":{"labels":{"a":"b"}},"spec":{"ephemeralContainers":[{"name":"more","image":"y"}]}}`, strategic, "200"},
		{"/ephemeralcontainers", `[{"op":"remove","path":"/spec/ephemeralContainers/0"}]`, jsonPatch, "422 "},
		{"/ephemeralcontainers", `[{"op":"replace","path":"/spec/ephemeralContainers/0/image","value":"z"}]`, jsonPatch, "422 "},
		{"/ephemeralcontainers", `{"spec":{"ephemeralContainers":[{"name":"main","image":"y"}]}}`, strategic, "422 "},
		{"/ephemeralcontainers", `{"spec":{"ephemeralContainers":[{"name":"x","image":"y","targetContainerName":"none"}]}}`, strategic, "422 "},
		{"/ephemeralcontainers", `{"metadata":{"resourceVersion":"1"},"spec":{"ephemeralContainers":[{"name":"late","image":"y"}]}}`, strategic, "409 "},
		{"", `{"metadata":{"labels":{"c":"d"}}}`, strategic, "200"},
	} {
		if got := patch(step.sub, step.text, step.kind); !strings.HasPrefix(got, step.want) {
			t.Errorf("%s %s: got %q, want %q", step.sub, step.text, got, step.want)
		}
	}
	got, _ := as[v1.Pod](c, "GET", pods+"/p/ephemeralcontainers", "", nil)
	var names []string
	for _, e := range got.Spec.EphemeralContainers {
		names = append(names, e.Name+" "+string(e.TerminationMessagePolicy))
	}
	if want := "[more File look File]"; fmt.Sprint(names) != want {
		t.Errorf("ephemeral containers: got %v, want %s", names, want)
	}
	if want := "map[c:d]"; fmt.Sprint(got.Labels) != want {
		t.Errorf("labels: got %v, want %s: only ephemeral containers count there", got.Labels, want)
	}
}
