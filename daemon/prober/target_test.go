package prober

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/shoal-project/shoal/daemon/probe"
)

// site answers by the path: /200 with that status, and the others as below.
func site(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/local":
		http.Redirect(w, r, "/200", http.StatusFound)
	case "/loop":
		http.Redirect(w, r, "/loop", http.StatusFound)
	case "/away":
		w.Header().Set("Location", "http://elsewhere.invalid/")
		w.WriteHeader(http.StatusFound)
		io.WriteString(w, "gone")
	case "/long":
		io.WriteString(w, strings.Repeat("x", 3*maxOutput)) // chunked
	case "/early":
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusNotFound)
	case "/headers":
		fmt.Fprintf(w, "agent=%s accept=%v host=%s query=%s x=%v", r.UserAgent(), r.Header["Accept"], r.Host, r.URL.RawQuery, r.Header["X"])
	case "/slow":
		<-r.Context().Done()
	default:
		status, err := strconv.Atoi(r.URL.Path[1:])
		if err != nil {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		io.WriteString(w, "secret")
	}
}

// portOf is a listener's port on loopback.
func portOf(t testing.TB, address string) intstr.IntOrString {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return intstr.FromInt(n)
}

func overHTTP(path string, port intstr.IntOrString) *v1.Probe {
	return &v1.Probe{TimeoutSeconds: 60, ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: path, Port: port}}}
}

func text(o probe.Outcome) string {
	word := string(o.Result)
	if o.Warning {
		word += " warning"
	}
	if o.Err != nil {
		return strings.TrimSpace(word + " error " + o.Err.Error())
	}
	return word + " " + o.Output
}

func TestHTTPProbes(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(site))
	defer server.Close()
	secure := httptest.NewUnstartedServer(http.HandlerFunc(site))
	secure.EnableHTTP2 = true
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	port := portOf(t, server.Listener.Addr().String())
	target := Target{Host: "127.0.0.1", Container: &v1.Container{Name: "c", Ports: []v1.ContainerPort{{Name: "web", ContainerPort: port.IntVal}}}}
	with := func(path string, change func(*v1.HTTPGetAction)) *v1.Probe {
		p := overHTTP(path, port)
		change(p.HTTPGet)
		return p
	}
	for _, test := range []struct {
		probe *v1.Probe
		want  string // the beginning
	}{
		{overHTTP("/200", port), "Success secret"},
		{overHTTP("/399", port), "Success warning Probe terminated redirects, Response body: secret"},
		{overHTTP("/400", port), "Failure HTTP probe failed with statuscode: 400"},
		{overHTTP("/500", port), "Failure HTTP probe failed with statuscode: 500"},
		{overHTTP("/early", port), "Failure HTTP probe failed with statuscode: 404"},
		{overHTTP("/local", port), "Success secret"},
		{overHTTP("/away", port), "Success warning Probe terminated redirects, Response body: gone"},
		{overHTTP("/loop", port), `Failure Get "/loop": stopped after 10 redirects`},
		{overHTTP("/headers?a=b", port), "Success agent=kube-probe/1.36 accept=[*/*] host=127.0.0.1:" + port.String() + " query=a=b x=[]"},
		{with("/headers", func(g *v1.HTTPGetAction) {
			g.HTTPHeaders = []v1.HTTPHeader{{Name: "X", Value: "1"}, {Name: "x", Value: "2"}, {Name: "Host", Value: "web.example"},
				{Name: "Accept", Value: ""}, {Name: "User-Agent", Value: "me"}}
		}), "Success agent=me accept=[] host=web.example query= x=[1 2]"},
		{with("/200", func(g *v1.HTTPGetAction) { g.Port = intstr.FromString("web") }), "Success"},
		{with("/200", func(g *v1.HTTPGetAction) { g.Port = intstr.FromString("wbe") }), `error port "wbe" is no port of container c`},
		{with("/200", func(g *v1.HTTPGetAction) { g.Port = intstr.FromString(port.String()) }), "Success"},
		{with("/200", func(g *v1.HTTPGetAction) { g.Host = "127.0.0.2" }), `Failure Get "http://127.0.0.2:`},
		{with("/200", func(g *v1.HTTPGetAction) {
			g.Scheme, g.Port = v1.URISchemeHTTPS, portOf(t, secure.Listener.Addr().String())
		}), "Success secret"},
		{with("/200", func(g *v1.HTTPGetAction) { g.Scheme = v1.URISchemeHTTPS }), "Failure Get \"https://127.0.0.1:" + port.String() + "/200\": http: server gave HTTP response to HTTPS client"},
	} {
		if got := text(Probe(t.Context(), target, test.probe)); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.probe.HTTPGet.Path, got, test.want)
		}
	}
	if out := Probe(t.Context(), target, overHTTP("/long", port)); out.Result != probe.Success || len(out.Output) != maxOutput {
		t.Errorf("a long body: %s with %d bytes, want %d", out.Result, len(out.Output), maxOutput)
	}
}

func TestAProbeEndsWithItsTimeout(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(site))
	defer server.Close()
	p := overHTTP("/slow", portOf(t, server.Listener.Addr().String()))
	p.TimeoutSeconds = 1
	got := text(Probe(t.Context(), Target{Host: "127.0.0.1"}, p))
	if want := "context deadline exceeded"; !strings.HasSuffix(got, want) || !strings.HasPrefix(got, "Failure") {
		t.Errorf("got %q, want a failure that ends with %q", got, want)
	}
}

// TestHostileAnswersEndInFailures: a server may send what it likes.
func TestHostileAnswersEndInFailures(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":          "",
		"no HTTP":          "SSH-2.0-OpenSSH_9.2\r\n",
		"endless headers":  "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 2000),
		"only interim":     strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 10),
		"a broken header":  "HTTP/1.1 200 OK\r\n\x00\r\n\r\n",
		"a negative size":  "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
		"two lengths":      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
		"an absurd status": "HTTP/1.1 99999 OK\r\n\r\n",
	} {
		l := answering(t, answer)
		got := Probe(t.Context(), Target{Host: "127.0.0.1"}, overHTTP("/", portOf(t, l.Addr().String())))
		if got.Result == probe.Success {
			t.Errorf("%s: succeeded with %q", name, got.Output)
		}
	}
}

// answering is a server that gives every request one answer and hangs up.
func answering(t *testing.T, answer string) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.WriteString(conn, answer)
			}
			conn.Close()
		}
	}()
	return l
}

func TestTCPProbes(t *testing.T) {
	l := answering(t, "")
	target := Target{Host: "127.0.0.1"}
	p := &v1.Probe{TimeoutSeconds: 60, ProbeHandler: v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: portOf(t, l.Addr().String())}}}
	if got := Probe(t.Context(), target, p); got.Result != probe.Success {
		t.Errorf("got %s", text(got))
	}
	l.Close()
	if got := text(Probe(t.Context(), target, p)); !strings.HasPrefix(got, "Failure dial tcp 127.0.0.1:") || !strings.HasSuffix(got, "connect: connection refused") {
		t.Errorf("nobody listens: got %q", got)
	}
	p.TCPSocket.Port = intstr.FromInt(0)
	if got := text(Probe(t.Context(), target, p)); got != "error invalid port number: 0" {
		t.Errorf("got %q", got)
	}
}

func TestExecProbes(t *testing.T) {
	p := &v1.Probe{TimeoutSeconds: 1, ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"check", "-a"}}}}
	calls := 0
	exec := func(code int, output string, err error) Target {
		return Target{Exec: func(ctx context.Context, command []string, out io.Writer) (int, error) {
			calls++
			if strings.Join(command, " ") != "check -a" {
				t.Errorf("command is %q", command)
			}
			io.WriteString(out, output)
			return code, err
		}}
	}
	hangs := Target{Exec: func(ctx context.Context, _ []string, _ io.Writer) (int, error) {
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}}
	for _, test := range []struct {
		target Target
		want   string
		calls  int
	}{
		{exec(0, "fine", nil), "Success fine", 1},
		{exec(3, "it hurts", nil), "Failure it hurts", 1},
		{exec(0, "", errors.New("no such command")), "error no such command", tries},
		{hangs, `Failure command timed out: command "check -a" timed out after 1s`, 0},
		{exec(1, strings.Repeat("y", 2*maxOutput), nil), "Failure " + strings.Repeat("y", maxOutput), 1},
	} {
		calls = 0
		if got := text(Probe(t.Context(), test.target, p)); got != test.want || calls != test.calls {
			t.Errorf("got %.80q after %d calls, want %.80q after %d", got, calls, test.want, test.calls)
		}
	}
}

func TestHooks(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.UserAgent()+" "+r.URL.Path+" "+r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusTeapot) // no status is a failure
	}))
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	get := &v1.HTTPGetAction{Path: "/stop", Port: portOf(t, server.Listener.Addr().String()), Scheme: v1.URISchemeHTTPS,
		HTTPHeaders: []v1.HTTPHeader{{Name: "Authorization", Value: "for TLS only"}}}
	target := Target{Host: "127.0.0.1", Exec: func(context.Context, []string, io.Writer) (int, error) { return 2, nil }}
	fellBack, err := Hook(t.Context(), target, &v1.LifecycleHandler{HTTPGet: get})
	if err != nil || !fellBack || len(asked) != 1 || asked[0] != "kube-lifecycle/1.36 /stop " {
		t.Errorf("over HTTPS to a server without: fell back %v, %v, asked %q", fellBack, err, asked)
	}
	if _, err := Hook(t.Context(), target, &v1.LifecycleHandler{Exec: &v1.ExecAction{}}); err == nil {
		t.Error("a command that ended with 2 was a success")
	}
	if _, err := Hook(t.Context(), target, &v1.LifecycleHandler{TCPSocket: &v1.TCPSocketAction{}}); err == nil {
		t.Error("tcpSocket was a success")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := Hook(ctx, target, &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: 3600}}); err == nil {
		t.Error("a sleep that was cut short was a success")
	}
	if _, err := Hook(t.Context(), target, &v1.LifecycleHandler{Sleep: &v1.SleepAction{}}); err != nil {
		t.Error(err)
	}
}
