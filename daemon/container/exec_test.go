package container

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

func TestExecHasStreamsAndExitCode(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000", func(c *Config) { c.Env = []string{"MINE=yes"} })
	var out, errs bytes.Buffer
	code, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{
		Cmd: []string{"sh", "-c", "cat; echo $MINE; echo oops >&2; exit 9"}, Stdin: strings.NewReader("in\n"), Stdout: &out, Stderr: &errs})
	if err != nil || code != 9 || out.String() != "in\nyes\n" || errs.String() != "oops\n" {
		t.Errorf("code %d, %v, stdout %q, stderr %q", code, err, &out, &errs)
	}
	code, err = b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"true"}})
	if err != nil || code != 0 {
		t.Errorf("without streams: %d, %v", code, err)
	}
	code, err = b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"sh", "-c", "kill -9 $$"}})
	if err != nil || code != 137 {
		t.Errorf("killed: %d, %v", code, err)
	}
}

func TestExecCarriesMuch(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000")
	in := make([]byte, 20<<20)
	rand.NewChaCha8([32]byte{1}).Read(in)
	var out bytes.Buffer
	if code, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"cat"}, Stdin: bytes.NewReader(in), Stdout: &out}); err != nil || code != 0 {
		t.Fatalf("code %d, %v", code, err)
	}
	if sha256.Sum256(in) != sha256.Sum256(out.Bytes()) {
		t.Errorf("%d bytes in, %d other bytes out", len(in), out.Len())
	}
}

func TestExecOfWhatIsNotThere(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000")
	for _, tty := range []bool{false, true} {
		_, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"/no/such"}, TTY: tty})
		var typed *ExecError
		if !errors.As(err, &typed) || !strings.Contains(typed.Text, "/no/such") {
			t.Errorf("tty %v: %v", tty, err)
		}
	}
}

func TestExecOnATerminal(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000")
	sizes := make(chan Size, 1)
	sizes <- Size{Width: 123, Height: 45}
	in, typed := io.Pipe()
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() {
		code, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"sh"}, TTY: true, Stdin: in, Stdout: &out, Resize: sizes})
		if err == nil && code != 4 {
			err = fmt.Errorf("code %d", code)
		}
		done <- err
	}()
	// The size is set at some time after the shell starts: it asks until it has it.
	fmt.Fprintln(typed, "while ! stty size | grep '^45 123$'; do :; done; tty; echo $TERM; exit 4")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	typed.Close()
	got := out.String()
	if !strings.Contains(got, "45 123\r\n/dev/pts/0\r\nxterm\r\n") {
		t.Errorf("got %q", got)
	}
}

func TestExecOfAShortCommandLosesNoOutput(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000")
	for _, tty := range []bool{false, true} {
		for range 20 {
			var out bytes.Buffer
			code, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"echo", "hi"}, TTY: tty, Stdout: &out})
			if err != nil || code != 0 || strings.TrimSpace(out.String()) != "hi" {
				t.Fatalf("tty %v: %d, %v, %q", tty, code, err, out.String())
			}
		}
	}
}

func TestExecEndsWithItsContext(t *testing.T) {
	for _, tty := range []bool{false, true} {
		t.Run(fmt.Sprint("tty ", tty), func(t *testing.T) {
			b := newBed(t)
			cfg := b.run("sleep 1000")
			ctx, cancel := context.WithCancel(t.Context())
			started := &onWrite{f: cancel}
			begin := time.Now()
			_, err := b.Exec(ctx, cfg.Dir, ExecOptions{Cmd: []string{"sh", "-c", "trap '' TERM HUP; echo on; sleep 2000 & sleep 3000"}, Stdout: started, TTY: tty})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
			var ps bytes.Buffer
			b.until("its processes to end", func() bool {
				ps.Reset()
				if _, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"ps"}, Stdout: &ps}); err != nil {
					t.Fatal(err)
				}
				return !strings.Contains(ps.String(), "sleep 2000") && !strings.Contains(ps.String(), "sleep 3000")
			})
		})
	}
}

type onWrite struct{ f func() }

func (w *onWrite) Write(b []byte) (int, error) { w.f(); return len(b), nil }

func TestExecDoesNotWaitForWhatItLeaves(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000")
	var out bytes.Buffer
	begin := time.Now()
	code, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"sh", "-c", "sleep 30 & echo done"}, Stdout: &out})
	if err != nil || code != 0 || out.String() != "done\n" || time.Since(begin) > 10*time.Second {
		t.Errorf("%d, %v, %q after %s", code, err, out.String(), time.Since(begin))
	}
}

func TestExecNeedsARunningContainer(t *testing.T) {
	b := newBed(t)
	cfg := b.config("true")
	b.create(cfg)
	if _, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"true"}}); err == nil {
		t.Error("exec in a container that was not started")
	}
}

func TestExecIsAsConfinedAsItsContainer(t *testing.T) {
	b := newBed(t)
	uid := int64(1000)
	cfg := b.run("sleep 1000", func(c *Config) {
		c.Container.SecurityContext = &v1.SecurityContext{RunAsUser: &uid,
			SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault},
			Capabilities:   &v1.Capabilities{Drop: []v1.Capability{"ALL"}}}
	})
	var out bytes.Buffer
	_, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"grep", "-E", "^(Seccomp|CapBnd|Uid):", "/proc/self/status"}, Stdout: &out})
	if want := "Uid:\t1000\t1000\t1000\t1000\nCapBnd:\t0000000000000000\nSeccomp:\t2\n"; err != nil || out.String() != want {
		t.Errorf("got %q, %v, want %q", out.String(), err, want)
	}
}

func TestAttachSeesOutputAndGivesInput(t *testing.T) {
	b := newBed(t)
	cfg := b.config("echo begin; cat; echo over >&2", func(c *Config) { c.Container.Stdin, c.Container.StdinOnce = true, true })
	b.create(cfg)
	var out, errs bytes.Buffer
	done := make(chan error, 1)
	big := strings.Repeat("0123456789abcde\n", 20000)
	go func() {
		done <- b.Attach(t.Context(), cfg.Dir, Streams{Stdin: strings.NewReader(big), Stdout: &out, Stderr: &errs})
	}()
	if err := b.Start(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.ended(cfg.Dir)
	if got := b.log(cfg, "stdout"); got != "begin\n"+big {
		t.Errorf("log has %d bytes", len(got))
	}
	if !strings.HasSuffix(out.String(), big) || errs.String() != "over\n" {
		t.Errorf("attach had %d bytes, stderr %q", out.Len(), errs.String())
	}
}

func TestAttachEndsWithItsContext(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Attach(ctx, cfg.Dir, Streams{Stdout: io.Discard}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if got := b.read(cfg.Dir); got.Phase != Running {
		t.Errorf("the container is %s", got.Phase)
	}
}

func TestAttachResizesTheTerminal(t *testing.T) {
	b := newBed(t)
	cfg := b.config("while ! stty size | grep '^45 123$'; do :; done; exit 5", func(c *Config) { c.Container.TTY, c.Container.Stdin = true, true })
	b.create(cfg)
	if err := b.Start(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	sizes := make(chan Size, 1)
	sizes <- Size{Width: 123, Height: 45}
	if err := b.Attach(t.Context(), cfg.Dir, Streams{Stdout: io.Discard, Resize: sizes}); err != nil {
		t.Fatal(err)
	}
	if got := b.ended(cfg.Dir); got.ExitCode != 5 {
		t.Errorf("got %+v", got)
	}
}

func TestLoadReadsNothingOutsideTheImage(t *testing.T) {
	b := newBed(t)
	root := b.dir + "/rootfs"
	secret := b.dir + "/secret"
	if err := os.WriteFile(secret, []byte("app:x:0:0::/:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	passwd := root + "/etc/passwd"
	if err := os.Remove(passwd); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{secret, "../../secret", "/proc/self/environ"} {
		if err := os.Symlink(target, passwd); err != nil {
			t.Fatal(err)
		}
		pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "app"}}}}
		cfg, err := Config{Pod: pod, Container: &pod.Spec.Containers[0], Rootfs: root}.Load()
		if err != nil || len(cfg.Host.Passwd) > 0 {
			t.Errorf("%s: read %q, %v", target, cfg.Host.Passwd, err)
		}
		os.Remove(passwd)
	}
}
