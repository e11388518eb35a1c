package cure

import (
	"fmt"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// network is what keeps a pod from its ports.
var network = []rule{
	says(`host port (\d+)/(\w+) is taken by pod (\S+)`, func(a about, m []string) string {
		for path, c := range containers(a.pod) {
			for i, p := range c.Ports {
				if strconv.Itoa(int(p.HostPort)) == m[1] && string(p.Protocol) == m[2] {
					return at(fmt.Sprintf("%s.ports[%d].hostPort", path, i), "choose another one, or end pod %s", m[3])
				}
			}
		}
		return ""
	}),
	says(`this host has no pod network`, func(a about, _ []string) string { return "" }), // it says what to do
}

// probes are probes that fail; what was said begins with their kind.
var probes = []rule{
	says(`^(Liveness|Readiness|Startup) probe failed: .*dial tcp \S*?:(\d+): connect: connection refused`, func(a about, m []string) string {
		field, _ := a.probe(m[1])
		declared := ""
		if ports := a.ports(); ports != "" {
			declared = ", whose ports are " + ports
		}
		return at(field+".port", "nothing listens at port %s of the pod%s: correct the port, have the program listen at 0.0.0.0 and not only at 127.0.0.1, or give it time with a startupProbe", m[2], declared)
	}),
	says(`^(Liveness|Readiness|Startup) probe failed: HTTP probe failed with statuscode: 404`, func(a about, m []string) string {
		field, p := a.probe(m[1])
		path := ""
		if p != nil && p.HTTPGet != nil {
			path = p.HTTPGet.Path
		}
		return at(field+".path", "the server does not know %q: name a path that it answers with 200 to 399", path)
	}),
	says(`^(Liveness|Readiness|Startup) probe failed: HTTP probe failed with statuscode: (40[13])`, func(a about, m []string) string {
		field, _ := a.probe(m[1])
		return at(field, "the server asks who it is: name a path that needs no login, or give httpHeaders")
	}),
	says(`^(Liveness|Readiness|Startup) probe failed: .*server gave HTTP response to HTTPS client`, func(a about, m []string) string {
		field, _ := a.probe(m[1])
		return at(field+".scheme", "set HTTP: the server speaks no TLS at this port")
	}),
	says(`^(Liveness|Readiness|Startup) probe failed: .*(?:timed out after|context deadline exceeded|i/o timeout)`, func(a about, m []string) string {
		field := a.field(probeField(m[1]) + ".timeoutSeconds")
		return at(field, "raise it, or make the answer quicker")
	}),
	says("^(Liveness|Readiness|Startup) probe (?:failed|errored).*executable file `([^`]*)` not found", func(a about, m []string) string {
		field, _ := a.probe(m[1])
		return at(field+".command[0]", "there is no %s in %s: name a program that it has, or use httpGet or tcpSocket", m[2], a.image())
	}),
	says(`^(Liveness|Readiness|Startup) probe errored.*port "([^"]+)" is no port of container`, func(a about, m []string) string {
		field, _ := a.probe(m[1])
		if ports := a.ports(); ports != "" {
			return at(field+".port", "the container's ports are %s", ports)
		}
		return at(field+".port", "the container names no ports: give a number")
	}),
}

func probeField(kind string) string { return strings.ToLower(kind) + "Probe" }

// probe is a container's probe and the field of how it is made.
func (a about) probe(kind string) (string, *v1.Probe) {
	if a.spec == nil {
		return probeField(kind), nil
	}
	p := map[string]*v1.Probe{"Liveness": a.spec.LivenessProbe, "Readiness": a.spec.ReadinessProbe, "Startup": a.spec.StartupProbe}[kind]
	field := a.field(probeField(kind))
	switch {
	case p == nil:
	case p.Exec != nil:
		field += ".exec"
	case p.HTTPGet != nil:
		field += ".httpGet"
	case p.TCPSocket != nil:
		field += ".tcpSocket"
	case p.GRPC != nil:
		field += ".grpc"
	}
	return field, p
}

// ports are those that the container declares: "80 (web), 443".
func (a about) ports() string {
	if a.spec == nil || len(a.spec.Ports) == 0 {
		return ""
	}
	var list []string
	for _, p := range a.spec.Ports {
		text := strconv.Itoa(int(p.ContainerPort))
		if p.Name != "" {
			text += " (" + p.Name + ")"
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}
