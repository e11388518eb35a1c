package container

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// BenchmarkCreateStart is what a container costs in a sandbox that is there:
// from Load to the end of Start. BenchmarkCrunRun is its baseline: bare
// "crun run" of the same bundle in the same namespaces.
func BenchmarkCreateStart(b *testing.B) {
	bed := newBed(b)
	base := bed.config("exec sleep 1000")
	for n := range b.N {
		cfg := base
		cfg.ID = fmt.Sprintf("bench-container-%06d", n)
		cfg.Dir = filepath.Join(filepath.Dir(base.Dir), fmt.Sprint(n+1))
		bed.create(cfg)
		if err := bed.Start(b.Context(), cfg.Dir); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := bed.Delete(b.Context(), cfg.Dir); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkCrunRun(b *testing.B) {
	bed := newBed(b)
	cfg, err := bed.config("exec sleep 1000").Load()
	if err != nil {
		b.Fatal(err)
	}
	spec, err := Spec(cfg)
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(bed.prepare(cfg), writeJSON(cfg.Dir, configFile, spec)); err != nil {
		b.Fatal(err)
	}
	for n := range b.N {
		id := fmt.Sprintf("bench-crun-run-%06d", n)
		run := exec.Command(bed.oci(""), append(bed.flags(bed.oci("")), "run", "--detach", "--bundle", cfg.Dir, id)...)
		run.Stderr = os.Stderr
		if err := start(run, nil, ""); err != nil {
			b.Fatal(err)
		}
		if err := run.Wait(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := bed.Runtime.run(b.Context(), "delete", "--force", id); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkSandbox(b *testing.B) {
	bed := newBed(b)
	for n := range b.N {
		dir := filepath.Join(bed.dir, "pods", fmt.Sprint("bench", n))
		if _, err := StartSandbox(b.Context(), SandboxConfig{Dir: dir, Hostname: "web"}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := StopSandbox(dir); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkRead(b *testing.B) {
	bed := newBed(b)
	cfg := bed.run("exec sleep 1000")
	for b.Loop() {
		if _, err := bed.Read(cfg.Dir); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExec is the daemon's own part of a command such as a probe's, one
// each 50 ms as 200 pods with a probe each 10 s have it: processor time,
// switches of threads and page faults, without those of its children.
func BenchmarkExec(b *testing.B) {
	bed := newBed(b)
	cfg := bed.run("exec sleep 1000")
	command := bed.Repeated(cfg.Dir, "probe", []string{"true"})
	self := func() (u syscall.Rusage) {
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	b.ReportAllocs()
	before := self()
	for b.Loop() {
		out := &plain{}
		if code, err := command.Run(b.Context(), out); err != nil || code != 0 {
			b.Fatal(code, err)
		}
		<-tick.C
	}
	after := self()
	per := func(n int64, unit string) { b.ReportMetric(float64(n)/float64(b.N), unit) }
	per((after.Utime.Nano()-before.Utime.Nano())/1000, "user-us/op")
	per((after.Stime.Nano()-before.Stime.Nano())/1000, "sys-us/op")
	per(after.Nvcsw-before.Nvcsw, "sleeps/op")
	per(after.Minflt-before.Minflt, "faults/op")
}

// plain is a writer that can do no more, like the prober's.
type plain struct{ n int }

func (p *plain) Write(b []byte) (int, error) { p.n += len(b); return len(b), nil }
