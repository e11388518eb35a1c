package e2e

import (
	"strings"
	"testing"
)

const services = `apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.50, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 5432, protocol: TCP}]
endpoints:
- {addresses: [10.77.0.1], hostname: db-0}
- {addresses: [10.77.0.2]}
- {addresses: [10.77.0.3], hostname: db-2, conditions: {ready: false}}
---
apiVersion: v1
kind: Service
metadata: {name: auto}
spec: {selector: {tier: one}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: boxes}
spec: {clusterIP: None, selector: {tier: one}, ports: [{name: http, port: 80}]}
`

// srv prints how many SRV records a name has, and the answer's code, for want of
// a program in Debian's base system that would.
const srv = `python3 -c '
import socket, struct, sys
q = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"".join(bytes([len(l)]) + l.encode() for l in sys.argv[2].split(".")) + b"\0\0\x21\0\1"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.sendto(q, (sys.argv[1], 53))
flags, _, answers = struct.unpack(">HHH", s.recv(4096)[2:8])
print(answers, flags & 15)
' $(ip -4 -o addr show shoal0 | sed 's/.*inet //; s/[/].*//') `

func TestPodsFindServicesByName(t *testing.T) {
	h := newShoal(t)
	h.drop("services.yaml", services)
	h.drop("pod.yaml", named("box"))
	h.drop("alone.yaml", strings.Replace(named("alone"), "  labels:", "  annotations: {shoal.io/dns-search: client}\n  labels:", 1))
	h.ready("box")
	h.ready("alone")
	for _, pod := range []string{"box", "alone"} {
		for name, want := range map[string]string{
			"web": "10.96.0.50", "web.default": "10.96.0.50", "web.default.svc": "10.96.0.50",
			"web.default.svc.cluster.local": "10.96.0.50", "web.default.svc.cluster.local.": "10.96.0.50",
			"alias": "10.96.0.50", "alias.default": "10.96.0.50",
			"db": "10.77.0.1 10.77.0.2", "db-0.db": "10.77.0.1", "10-77-0-2.db.default": "10.77.0.2", "db-2.db": "", "nothing": "",
		} {
			h.shows(want, "shoal exec "+pod+" -- getent ahostsv4 "+name+` | cut -d" " -f1 | sort -u | paste -s -d" "`)
		}
		h.until("shoal exec " + pod + " -- getent hosts 10.96.0.50 | grep -qw web.default.svc.cluster.local")
		h.until("shoal exec " + pod + " -- getent hosts 10.77.0.2 | grep -qw 10-77-0-2.db.default.svc.cluster.local")
	}
	h.shows("2 0", srv+"_sql._tcp.db.default.svc.cluster.local")
	h.shows("1 0", srv+"_http._tcp.web.default.svc.cluster.local")
	h.shows("0 3", srv+"_none._tcp.web.default.svc.cluster.local")

	h.shows("2", `shoal dns lookup web.default --from box | grep -c "default.svc.cluster.local. .* cluster "`)
	h.until(`shoal dns lookup web.default --from box | tail -1 | grep -q "A 10.96.0.50 .*found"`)
	if said := h.fails("shoal dns lookup nothing --from alone"); !strings.Contains(said, "nothing.default.svc.cluster.local.") || strings.Contains(said, "answers the first question") {
		t.Errorf("of a name that is not there: %s", said)
	}

	// Endpoints of a selector: the name follows the pods.
	const boxes = `shoal exec box -- getent ahostsv4 boxes | cut -d" " -f1 | sort -u | paste -s -d" "`
	h.until(`test "$(shoal exec box -- getent ahostsv4 auto | head -1 | cut -d" " -f1)" = "$(shoal get service auto -o jsonpath='{.spec.clusterIP}')"`)
	h.until(`test "$(` + boxes + `)" = "$(shoal get pods -l tier=one -o jsonpath='{range .items[*]}{.status.podIP}{"\n"}{end}' | sort | paste -s -d" ")"`)
	h.until("shoal exec alone -- getent hosts $(shoal get pod box -o jsonpath='{.status.podIP}') | grep -q boxes.default.svc.cluster.local")
	h.sh("rm /etc/shoal/manifests/alone.yaml")
	h.shows(h.get("pod/box", ".status.podIP"), boxes)

	h.drop("services.yaml", strings.Replace(services, "10.77.0.1]", "10.77.0.9]", 1))
	h.shows("10.77.0.9", `shoal exec box -- getent ahostsv4 db-0.db | cut -d" " -f1 | sort -u`)
	h.kill()
	h.shows("10.77.0.9", `shoal exec box -- getent ahostsv4 db-0.db.default | cut -d" " -f1 | sort -u`)
	h.sh("rm /etc/shoal/manifests/services.yaml")
	for _, name := range []string{"web", "db", "db-0.db", "alias", "boxes"} {
		h.shows("gone", "shoal exec box -- getent hosts "+name+" || echo gone")
	}
}
