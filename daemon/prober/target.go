package prober

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/shoal-project/shoal/daemon/probe"
)

// maxOutput is how much of what a probe says is kept (the kubelet's
// maxReadLength, maxRespBodyLength).
const maxOutput = 10 << 10

// tries is how often a probe is made that can't be made (maxProbeRetries).
const tries = 3

// Target is a container to be probed.
type Target struct {
	Container *v1.Container
	Host      string // where it is reached, unless the probe names another
	// Exec runs a command in the container and returns its exit code.
	Exec func(ctx context.Context, command []string, output io.Writer) (int, error)
}

// Probe probes once.
func Probe(ctx context.Context, t Target, p *v1.Probe) (out probe.Outcome) {
	for range tries {
		limited, cancel := context.WithTimeout(ctx, probe.Timeout(p))
		out = once(limited, t, p)
		cancel()
		if out.Err == nil || ctx.Err() != nil {
			break
		}
	}
	return out
}

func once(ctx context.Context, t Target, p *v1.Probe) probe.Outcome {
	switch timeout := probe.Timeout(p); {
	case p.Exec != nil:
		return command(ctx, t, p.Exec.Command, timeout)
	case p.HTTPGet != nil:
		return httpGet(ctx, t, p.HTTPGet)
	case p.TCPSocket != nil:
		return tcp(ctx, t, p.TCPSocket)
	case p.GRPC != nil:
		return grpcProbe(ctx, net.JoinHostPort(t.Host, strconv.Itoa(int(p.GRPC.Port))), p.GRPC.Service, timeout)
	}
	return probe.Outcome{Err: errors.New("the probe has no handler that this version knows")}
}

func failed(format string, args ...any) probe.Outcome {
	return probe.Outcome{Result: probe.Failure, Output: fmt.Sprintf(format, args...)}
}

// tcp succeeds if a connection can be made.
func tcp(ctx context.Context, t Target, s *v1.TCPSocketAction) probe.Outcome {
	port, err := Port(s.Port, t.Container)
	if err != nil {
		return probe.Outcome{Err: err}
	}
	host := s.Host
	if host == "" {
		host = t.Host
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return failed("%v", err)
	}
	conn.Close()
	return probe.Outcome{Result: probe.Success}
}

// dialer makes one connection a probe: no second address family is raced for,
// and nothing keeps the connection alive.
var dialer = net.Dialer{FallbackDelay: -1, KeepAlive: -1}

// Port is a port by its number, its name, or its number as text.
func Port(p intstr.IntOrString, c *v1.Container) (int, error) {
	port := int(p.IntVal)
	if p.Type == intstr.String {
		var err error
		if port, err = portByName(p.StrVal, c); err != nil {
			return 0, err
		}
	}
	if port <= 0 || port > 65535 {
		return 0, fmt.Errorf("invalid port number: %v", port)
	}
	return port, nil
}

func portByName(name string, c *v1.Container) (int, error) {
	for _, p := range c.Ports {
		if p.Name == name {
			return int(p.ContainerPort), nil
		}
	}
	port, err := strconv.Atoi(name)
	if err != nil {
		return 0, fmt.Errorf("port %q is no port of container %s: name one of its ports, or give a number", name, c.Name)
	}
	return port, nil
}

// command succeeds if a command in the container ends with 0.
func command(ctx context.Context, t Target, args []string, timeout time.Duration) probe.Outcome {
	output := &limited{most: maxOutput}
	code, err := t.Exec(ctx, args, output)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return failed("command timed out: command %q timed out after %s", strings.Join(args, " "), timeout)
	case err != nil:
		return probe.Outcome{Err: err}
	case code != 0:
		return failed("%s", output)
	}
	return probe.Outcome{Result: probe.Success, Output: output.String()}
}
