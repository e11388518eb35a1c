package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/api/apitest"
)

// TestMain lets the test's own binary be shoal: kubectl's commands end their
// process where they fail, so they run in one of their own.
func TestMain(m *testing.M) {
	if os.Getenv("SHOAL_TEST_AS_PROGRAM") == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

// host is a served fake node and how to run commands against it.
type testHost struct {
	*apitest.Node
	t      *testing.T
	socket string
}

func newHost(t *testing.T) *testHost {
	t.Helper()
	n := apitest.NewNode(t.TempDir(), time.Now, slog.New(slog.DiscardHandler))
	return &testHost{Node: n, t: t, socket: apitest.Start(t, n)}
}

// shoal is a command of this program.
func (h *testHost) shoal(args ...string) *exec.Cmd {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, done := context.WithTimeout(h.t.Context(), 5*time.Minute)
	h.t.Cleanup(done)
	c := exec.CommandContext(ctx, self, args...)
	c.Env = append(os.Environ(), "SHOAL_TEST_AS_PROGRAM=1", "SHOAL_SOCKET="+h.socket, "HOME="+h.t.TempDir())
	return c
}

// must runs a command that must succeed.
func must(t *testing.T, c *exec.Cmd, stdin string) string {
	t.Helper()
	out, code := try(t, c, stdin)
	if code != 0 {
		t.Fatalf("%s: exit code %d\n%s", strings.Join(c.Args[1:], " "), code, out)
	}
	return out
}

// try runs a command and returns what it wrote and its exit code.
func try(t *testing.T, c *exec.Cmd, stdin string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if stdin != "" {
		c.Stdin = strings.NewReader(stdin)
	}
	err := c.Run()
	if c.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), c.ProcessState.ExitCode()
}

// started is a command that goes on while the test does something.
type started struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  chan string // lines
	rest []string
}

func start(t *testing.T, c *exec.Cmd) *started {
	t.Helper()
	r, w := io.Pipe()
	c.Stdout, c.Stderr = w, w
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s := &started{t: t, cmd: c, out: make(chan string, 100)}
	waited := make(chan struct{})
	go func() {
		c.Wait()
		w.Close()
		close(waited)
	}()
	go lines(r, s.out)
	t.Cleanup(func() {
		c.Process.Kill()
		<-waited
	})
	return s
}

func lines(r io.Reader, out chan<- string) {
	defer close(out)
	buf := make([]byte, 4096)
	var part string
	for {
		n, err := r.Read(buf)
		part += string(buf[:n])
		for {
			line, rest, ok := strings.Cut(part, "\n")
			if !ok {
				break
			}
			out <- line
			part = rest
		}
		if err != nil {
			if part != "" {
				out <- part
			}
			return
		}
	}
}

// want reads on to a line that contains text.
func (s *started) want(text string) string {
	s.t.Helper()
	late := time.After(60 * time.Second)
	for {
		select {
		case line, ok := <-s.out:
			if !ok {
				s.t.Fatalf("ended without %q; wrote:\n%s", text, strings.Join(s.rest, "\n"))
			}
			s.rest = append(s.rest, line)
			if strings.Contains(line, text) {
				return line
			}
		case <-late:
			s.t.Fatalf("no %q in time; wrote:\n%s", text, strings.Join(s.rest, "\n"))
		}
	}
}

// end reads all that is left.
func (s *started) end() []string {
	s.t.Helper()
	late := time.After(60 * time.Second)
	for {
		select {
		case line, ok := <-s.out:
			if !ok {
				return s.rest
			}
			s.rest = append(s.rest, line)
		case <-late:
			s.t.Fatalf("does not end; wrote:\n%s", strings.Join(s.rest, "\n"))
		}
	}
}
