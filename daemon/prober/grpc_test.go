package prober

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/probe"
)

// odd is a health server with services that answer in odd ways.
type odd struct{ *health.Server }

func (o odd) Check(ctx context.Context, r *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	switch r.Service {
	case "slow":
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	case "angry":
		return nil, status.Error(codes.ResourceExhausted, "100% of ünits\nare gone")
	}
	return o.Server.Check(ctx, r)
}

func TestGRPCProbesOfARealServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, bare := grpc.NewServer(), grpc.NewServer()
	services := health.NewServer()
	services.SetServingStatus("sick", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	long := strings.Repeat("long", 5000)
	services.SetServingStatus(long, grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(server, odd{services})
	go server.Serve(l)
	defer server.Stop()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go bare.Serve(other)
	defer bare.Stop()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	closed := portOf(t, other.Addr().String()) // on another address, where nobody listens
	for _, test := range []struct {
		name, address string
		service       string
		timeout       int32
		want          string // the beginning
	}{
		{"all", l.Addr().String(), "", 60, "Success service healthy"},
		{"a service of a long name", l.Addr().String(), long, 60, "Success service healthy"},
		{"a sick service", l.Addr().String(), "sick", 60, `Failure service unhealthy (responded with "NOT_SERVING")`},
		{"an unknown service", l.Addr().String(), "none", 60, "Failure error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"},
		{"a message with odd characters", l.Addr().String(), "angry", 60, "Failure error: health rpc probe failed: rpc error: code = ResourceExhausted desc = 100% of ünits\nare gone"},
		{"a slow service", l.Addr().String(), "slow", 1, "Failure timeout: health rpc did not complete within 1s"},
		{"no health service", other.Addr().String(), "", 60, "Failure error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service grpc.health.v1.Health"},
		{"a web server", plain.Listener.Addr().String(), "", 60, "Failure error: health rpc probe failed: "},
		{"nobody", "127.0.0.2:" + closed.String(), "", 60, "Failure error: failed to connect service at"},
	} {
		host, _, _ := net.SplitHostPort(test.address)
		p := &v1.Probe{TimeoutSeconds: test.timeout, ProbeHandler: v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: portOf(t, test.address).IntVal, Service: &test.service}}}
		if got := text(Probe(t.Context(), Target{Host: host}, p)); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// TestGRPCAnswersThatAreNone: what a hostile server may send over HTTP/2.
func TestGRPCAnswersThatAreNone(t *testing.T) {
	serving := frame([]byte{0x08, 0x01})
	for name, answer := range map[string]struct {
		body    string
		trailer string
	}{
		"no trailer":         {string(serving), ""},
		"trailer of letters": {string(serving), "ok"},
		"short":              {"\x00\x00", "0"},
		"wrong length":       {"\x00\x00\x00\x00\x09\x08\x01", "0"},
		"compressed":         {"\x01\x00\x00\x00\x02\x08\x01", "0"},
		"no protobuf":        {string(frame([]byte{0xff, 0xff})), "0"},
		"cut varint":         {string(frame([]byte{0x08, 0xff})), "0"},
		"empty":              {string(frame(nil)), "0"},
		"endless":            {string(frame([]byte(strings.Repeat("\x10\x01", 1<<20)))), "0"},
	} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "Grpc-Status")
			io.WriteString(w, answer.body)
			if answer.trailer != "" {
				w.Header().Set("Grpc-Status", answer.trailer)
			}
		}))
		server.Config.Protocols = &http.Protocols{}
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if got := grpcProbe(ctx, server.Listener.Addr().String(), nil, time.Minute); got.Result != probe.Failure {
			t.Errorf("%s: got %s", name, text(got))
		}
		cancel()
		server.Close()
	}
}
