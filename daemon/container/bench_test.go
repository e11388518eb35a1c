package container

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
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
	if err := bed.prepare(cfg, spec); err != nil {
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
