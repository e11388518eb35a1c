package container

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestARepeatedCommandIsAnExec: what a probe's command says and how it ends,
// again and again; what one run left behind is not the next one's.
func TestARepeatedCommandIsAnExec(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000", func(c *Config) { c.Env = []string{"MINE=yes"} })
	for _, c := range []struct {
		args   []string
		code   int
		out    string
		failed string // in the error
	}{
		{[]string{"sh", "-c", "cat; echo $MINE; echo oops >&2; exit 9"}, 9, "yes\noops\n", ""},
		{[]string{"true"}, 0, "", ""},
		{[]string{"sh", "-c", "kill -9 $$"}, 137, "", ""},
		{[]string{"sh", "-c", "sleep 30 & echo done"}, 0, "done\n", ""},
		{[]string{"sh", "-c", "exec >&- 2>&-; sleep 0.2; exit 3"}, 3, "", ""},
		{[]string{"/no/such"}, 0, "", "/no/such"},
	} {
		command := b.Repeated(cfg.Dir, "probe", c.args)
		for range 3 {
			var out bytes.Buffer
			begin := time.Now()
			code, err := command.Run(t.Context(), &out)
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("%v took %s", c.args, took)
			}
			if c.failed != "" {
				var typed *ExecError
				if !errors.As(err, &typed) || !strings.Contains(typed.Text, c.failed) || typed.Code() != 127 {
					t.Errorf("%v: %v", c.args, err)
				}
				continue
			}
			if err != nil || code != c.code || out.String() != c.out {
				t.Errorf("%v: got %d, %v, %q; want %d, %q", c.args, code, err, out.String(), c.code, c.out)
			}
		}
	}
	made, err := filepath.Glob(filepath.Join(cfg.Dir, "exec-*"))
	if err != nil || len(made) != 1 {
		t.Errorf("%d directories of 6 commands of one name: %v", len(made), err)
	}
}

// TestARepeatedCommandGoesOnAfterAFailure: an error of the OCI runtime's is the
// error of one run.
func TestARepeatedCommandGoesOnAfterAFailure(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000")
	command := b.Repeated(cfg.Dir, "probe", []string{"/tmp/late"})
	if _, err := command.Run(t.Context(), &bytes.Buffer{}); err == nil {
		t.Fatal("it ran before it was there")
	}
	if err := os.WriteFile(filepath.Join(cfg.Rootfs, "tmp/late"), []byte("#!/bin/sh\necho here\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code, err := command.Run(t.Context(), &out); err != nil || code != 0 || out.String() != "here\n" {
		t.Errorf("got %d, %v, %q", code, err, out.String())
	}
}

func TestARepeatedCommandEndsWithItsContext(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000")
	command := b.Repeated(cfg.Dir, "probe", []string{"sh", "-c", "trap '' TERM HUP; echo on; sleep 2000 & sleep 3000"})
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		_, err := command.Run(ctx, &onWrite{f: cancel})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("took %s", took)
		}
	}
	b.until("its processes to end", func() bool {
		var ps bytes.Buffer
		if _, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"ps"}, Stdout: &ps}); err != nil {
			t.Fatal(err)
		}
		return !strings.Contains(ps.String(), "sleep 2000") && !strings.Contains(ps.String(), "sleep 3000")
	})
}

func TestRunsOfARepeatedCommandMayOverlap(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000")
	command := b.Repeated(cfg.Dir, "probe", []string{"sh", "-c", "echo $$; exit 5"})
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			var out bytes.Buffer
			if code, err := command.Run(t.Context(), &out); err != nil || code != 5 || strings.Count(out.String(), "\n") != 1 {
				t.Errorf("got %d, %v, %q", code, err, out.String())
			}
		})
	}
	all.Wait()
}

func TestARepeatedCommandNeedsARunningContainer(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000")
	command := b.Repeated(cfg.Dir, "probe", []string{"true"})
	if _, err := command.Run(t.Context(), &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	state, err := b.Read(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(state.PID)
	if err != nil {
		t.Fatal(err)
	}
	p.Kill()
	b.until("the container to end", func() bool {
		s, err := b.Read(cfg.Dir)
		return err == nil && s.Phase == Exited
	})
	if _, err := command.Run(t.Context(), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "it is exited") {
		t.Errorf("after its end: %v", err)
	}
	if _, err := b.Repeated(cfg.Dir, "probe", []string{"true"}).Run(t.Context(), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "it is exited") {
		t.Errorf("anew: %v", err)
	}
}

func TestExitCodesOfCommandsThatCanNotBeStarted(t *testing.T) {
	for text, want := range map[string]int{
		"executable file `foo` not found in $PATH: No such file or directory":       127,
		"open executable: No such file or directory":                                127,
		`exec: "foo": executable file not found in $PATH`:                           127,
		`exec: "/no/such": stat /no/such: no such file or directory`:                127,
		"open executable: Permission denied":                                        126,
		`exec: "/etc/passwd": permission denied`:                                    126,
		"exec /x: exec format error":                                                126,
		"the container `x` is not running":                                          0,
		"cannot set memory+swap limit less than the memory limit: Invalid argument": 0,
	} {
		if got := (&ExecError{text}).Code(); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}
