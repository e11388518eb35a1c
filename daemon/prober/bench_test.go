package prober

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/shoal-project/shoal/daemon/probe"
)

// The servers run in another process, so that what is measured is the daemon's
// side alone, the kernel's work for it included.
const serverVariable = "SHOAL_PROBED_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(serverVariable) != "" {
		serve()
		return
	}
	os.Exit(m.Run())
}

// serve answers on one port in HTTP; it prints its address and ends with its
// standard input.
func serve() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				b := make([]byte, 4096)
				if n, _ := conn.Read(b); n > 0 {
					io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
				}
			}()
		}
	}()
	io.Copy(io.Discard, os.Stdin)
}

func probed(b *testing.B) intstr.IntOrString {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverVariable+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); cmd.Wait() })
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		b.Fatal(err)
	}
	return portOf(b, strings.TrimSpace(string(line[:n])))
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkProbe is the processor time of one probe: us-cpu/op. 500 a second
// are to cost less than 10 % of a core: 200 us.
func BenchmarkProbe(b *testing.B) {
	port := probed(b)
	target := Target{Host: "127.0.0.1"}
	for name, p := range map[string]*v1.Probe{
		"http": overHTTP("/", port),
		"tcp":  {TimeoutSeconds: 60, ProbeHandler: v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: port}}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				if out := Probe(b.Context(), target, p); out.Result != probe.Success {
					b.Fatal(text(out))
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "us-cpu/op")
		})
	}
}

// BenchmarkSchedule is a minute of 500 probes a second, half HTTP and half TCP,
// as the daemon runs them: %core is the processor time per second. Run it with
// -benchtime=1x; SHOAL_BENCH_SECONDS makes it shorter.
func BenchmarkSchedule(b *testing.B) {
	port := probed(b)
	seconds := 60
	if s := os.Getenv("SHOAL_BENCH_SECONDS"); s != "" {
		if _, err := fmt.Sscan(s, &seconds); err != nil {
			b.Fatal(err)
		}
	}
	for _, load := range []struct {
		name            string
		probes, seconds int
	}{{"500-a-second", 5000, 10}, {"100-pods-10s", 100, 10}} {
		b.Run(load.name, func(b *testing.B) {
			for b.Loop() {
				p := New()
				var failed atomic.Int64
				ctx, cancel := context.WithCancel(b.Context())
				done := make(chan struct{})
				go func() { p.Run(ctx); close(done) }()
				for i := range load.probes {
					spec := overHTTP("/", port)
					if i%2 == 0 {
						spec.ProbeHandler = v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: port}}
					}
					spec.PeriodSeconds, spec.FailureThreshold, spec.SuccessThreshold = int32(load.seconds), 3, 1
					p.Set(fmt.Sprint(i), []Task{{
						Key: Key{"c", 0, probe.Liveness}, Probe: spec, Target: Target{Host: "127.0.0.1"}, Started: time.Now(),
						State: probe.State{Result: probe.Success}, Said: func(_ probe.State, out probe.Outcome) { failed.Add(1) },
					}})
				}
				before := cpu(b)
				<-time.After(time.Duration(seconds) * time.Second) // what is measured is a span of time
				used := cpu(b) - before
				cancel()
				<-done
				if n := failed.Load(); n > 0 {
					b.Errorf("%d probes failed", n)
				}
				b.ReportMetric(100*used.Seconds()/float64(seconds), "%core")
			}
		})
	}
}
