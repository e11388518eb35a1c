package prober

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/shoal-project/shoal/daemon/probe"
)

// h2c speaks HTTP/2 without TLS, as gRPC does, one connection a probe. The call
// is written by hand: google.golang.org/grpc would add 10 MB to the daemon for
// one message of a dozen bytes.
var h2c = func() *http.Transport {
	t := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true, Protocols: &http.Protocols{}}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}()

// What the status of a call and of a service is called
// (google.golang.org/grpc/codes, grpc.health.v1.HealthCheckResponse).
var (
	codeNames = []string{"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
		"PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal",
		"Unavailable", "DataLoss", "Unauthenticated"}
	healthNames = []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
)

const (
	codeDeadlineExceeded = 4
	codeUnimplemented    = 12
	statusServing        = 1
)

// grpcProbe asks a server of the gRPC health checking protocol
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
func grpcProbe(ctx context.Context, address string, service *string, timeout time.Duration) probe.Outcome {
	name := ""
	if service != nil {
		name = *service
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/grpc.health.v1.Health/Check", bytes.NewReader(frame(checkRequest(name))))
	if err != nil {
		return probe.Outcome{Err: err}
	}
	r.Header = http.Header{
		"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"kube-probe/" + kubernetes},
		"Grpc-Timeout": {strconv.FormatInt(timeout.Milliseconds(), 10) + "m"},
	}
	var connected atomic.Bool // the Transport may still dial when the call has ended
	trace := httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	res, err := h2c.RoundTrip(r.WithContext(httptrace.WithClientTrace(ctx, &trace)))
	if err != nil {
		return grpcUnanswered(err, address, timeout, connected.Load())
	}
	defer res.Body.Close()
	message, err := io.ReadAll(io.LimitReader(res.Body, maxOutput))
	if err != nil {
		return grpcUnanswered(err, address, timeout, true)
	}
	if res.StatusCode != http.StatusOK {
		return failed("error: health rpc probe failed: unexpected HTTP status code received from server: %s", res.Status)
	}
	code, text := callStatus(res)
	switch {
	case code == codeUnimplemented:
		return failed("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", text)
	case code == codeDeadlineExceeded:
		return failed("timeout: health rpc did not complete within %v", timeout)
	case code < 0 || code >= len(codeNames):
		return failed("error: health rpc probe failed: rpc error: code = Code(%d) desc = %s", code, text)
	case code != 0:
		return failed("error: health rpc probe failed: rpc error: code = %s desc = %s", codeNames[code], text)
	}
	serving, err := checkResponse(message)
	if err != nil {
		return failed("error: health rpc probe failed: %v", err)
	}
	if serving != statusServing {
		word := strconv.FormatUint(serving, 10)
		if serving < uint64(len(healthNames)) {
			word = healthNames[serving]
		}
		return failed("service unhealthy (responded with %q)", word)
	}
	return probe.Outcome{Result: probe.Success, Output: "service healthy"}
}

// grpcUnanswered is the failure of a call to which no answer came.
func grpcUnanswered(err error, address string, timeout time.Duration, connected bool) probe.Outcome {
	switch late := errors.Is(err, context.DeadlineExceeded); {
	case late && connected:
		return failed("timeout: health rpc did not complete within %v", timeout)
	case late:
		return failed("timeout: failed to connect service %q within %v: %v", address, timeout, err)
	case !connected:
		return failed("error: failed to connect service at %q: %v", address, err)
	}
	return failed("error: health rpc probe failed: %v", err)
}

// callStatus is a call's, from the trailers, or from the headers of an answer that
// has nothing else.
func callStatus(res *http.Response) (code int, message string) {
	from := res.Trailer
	if res.Header.Get("Grpc-Status") != "" {
		from = res.Header
	}
	code, err := strconv.Atoi(from.Get("Grpc-Status"))
	if err != nil {
		return 2, "the server sent no grpc-status: is it a gRPC server?"
	}
	message = from.Get("Grpc-Message")
	if plain, err := url.PathUnescape(message); err == nil {
		message = plain
	}
	return code, message
}

// frame is a message as gRPC sends it: not compressed, with its length.
func frame(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// checkRequest is grpc.health.v1.HealthCheckRequest{service = 1}.
func checkRequest(service string) []byte {
	if service == "" {
		return nil
	}
	return protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), service)
}

// checkResponse is the status (1) of a grpc.health.v1.HealthCheckResponse.
func checkResponse(b []byte) (serving uint64, err error) {
	if len(b) < 5 || b[0] != 0 || int(binary.BigEndian.Uint32(b[1:])) != len(b)-5 {
		return 0, fmt.Errorf("the answer of %d bytes is no message of the health protocol", len(b))
	}
	for b = b[5:]; len(b) > 0; {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
		if field == 1 && kind == protowire.VarintType {
			if serving, n = protowire.ConsumeVarint(b); n < 0 {
				return 0, protowire.ParseError(n)
			}
		} else if n = protowire.ConsumeFieldValue(field, kind, b); n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return serving, nil
}
