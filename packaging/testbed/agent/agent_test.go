package agent

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serve runs an agent on a socket of the test's own and returns a client of it.
func serve(t *testing.T) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = Serve(l, slog.New(slog.DiscardHandler)) }()
	c := NewClient(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	})
	t.Cleanup(func() { c.Close(); l.Close(); <-done })
	return c
}

func TestStreamsAndExitCodeArriveApart(t *testing.T) {
	var out, errs bytes.Buffer
	exit, err := serve(t).Exec(t.Context(), Command{Args: []string{"sh", "-c", "cat; echo oops >&2; exit 7"}, Dir: "/"},
		IO{Stdin: strings.NewReader("hello"), Stdout: &out, Stderr: &errs})
	if err != nil || exit != 7 || out.String() != "hello" || errs.String() != "oops\n" {
		t.Errorf("got exit %d, %q, %q, %v", exit, out.String(), errs.String(), err)
	}
}

func TestLargeStreamsArriveWhole(t *testing.T) {
	want := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB: above every window and frame
	var out bytes.Buffer
	exit, err := serve(t).Exec(t.Context(), Command{Args: []string{"cat"}, Dir: "/"},
		IO{Stdin: strings.NewReader(want), Stdout: &out})
	if err != nil || exit != 0 || out.String() != want {
		t.Errorf("got exit %d, %d bytes, %v; want %d bytes", exit, out.Len(), err, len(want))
	}
}

func TestSignalledCommandReports128PlusSignal(t *testing.T) {
	exit, err := serve(t).Exec(t.Context(), Command{Args: []string{"sh", "-c", "kill -TERM $$"}, Dir: "/"}, IO{})
	if err != nil || exit != 143 {
		t.Errorf("got %d, %v; want 143", exit, err)
	}
}

func TestUnknownProgramIsAnError(t *testing.T) {
	_, err := serve(t).Exec(t.Context(), Command{Args: []string{"no-such-program"}, Dir: "/"}, IO{})
	if err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("got %v", err)
	}
}

func TestChildLeftBehindDoesNotHoldTheCommand(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out bytes.Buffer
	exit, err := serve(t).Exec(ctx, Command{Args: []string{"sh", "-c", "sleep 60 & echo $!"}, Dir: "/"}, IO{Stdout: &out})
	if err != nil || exit != 0 {
		t.Fatalf("got exit %d, %v", exit, err)
	}
	if exit, err := serve(t).Exec(t.Context(), Command{Args: []string{"kill", strings.TrimSpace(out.String())}, Dir: "/"},
		IO{}); err != nil || exit != 0 {
		t.Errorf("the child is gone: exit %d, %v", exit, err)
	}
}

func TestCancelKillsTheCommandAndItsChildren(t *testing.T) {
	c := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := c.Exec(ctx, Command{Args: []string{"sh", "-c", "sleep 600 & echo $!; wait"}, Dir: "/"}, IO{Stdout: w})
		ended <- err
	}()
	var pid [16]byte
	n, err := r.Read(pid[:])
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("a cancelled command returned no error")
	}
	child := strings.TrimSpace(string(pid[:n]))
	deadline := time.Now().Add(10 * time.Second)
	for {
		exit, err := c.Exec(t.Context(), Command{Args: []string{"sh", "-c", "grep -q '^State:.*[ZX]' /proc/$1/status || ! test -d /proc/$1", "sh", child}, Dir: "/"}, IO{})
		if err == nil && exit == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("child %s still runs", child)
		}
	}
}

func TestTerminalHasItsSizeAndMergesOutput(t *testing.T) {
	var out bytes.Buffer
	exit, err := serve(t).Exec(t.Context(),
		Command{Args: []string{"sh", "-c", "stty size; tty >/dev/null && echo tty >&2; read x; echo got $x; exit 3"},
			Dir: "/", TTY: &Size{Rows: 33, Cols: 101}},
		IO{Stdin: strings.NewReader("typed\n"), Stdout: &out})
	want := "33 101"
	if err != nil || exit != 3 || !strings.Contains(out.String(), want) ||
		!strings.Contains(out.String(), "tty\r\n") || !strings.Contains(out.String(), "got typed") {
		t.Errorf("got exit %d, %q, %v", exit, out.String(), err)
	}
}
