package fleet

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// named is a pod that says where it runs, and from which address it is asked.
func named(host string) string {
	return strings.NewReplacer("name: echo-", "name: web-", "app: echo", "app: web", `$c->peerhost`, "'"+host+" ', $c->peerhost").Replace(echo(host))
}

const webService = `apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 8000, targetPort: 80}]
`

// answers are the hosts whose pods answer at an address, asked so many times from
// a host, or from its pod.
func (c cluster) answers(from, pod, address string, times int) (who []string) {
	c.Helper()
	in := ""
	if pod != "" {
		in = "shoal exec " + pod + " -- "
	}
	out, err := c.try(from, fmt.Sprintf(`for i in $(seq %d); do %scurl -s -m 5 http://%s/ || echo nobody; echo; done`, times, in, address))
	if err != nil {
		return []string{err.Error()}
	}
	for line := range strings.Lines(out) {
		if word, _, _ := strings.Cut(strings.TrimSpace(line), " "); word != "" {
			who = append(who, word)
		}
	}
	slices.Sort(who)
	return slices.Compact(who)
}

// leads waits until an address leads to the pods of these hosts and to no others.
func (c cluster) leads(from, pod, address string, hosts ...string) {
	c.Helper()
	c.eventually(fmt.Sprintf("from %s%s, %s leads to %v", from, pod, address, hosts), func() error {
		if who := c.answers(from, pod, address, 15); !slices.Equal(who, hosts) {
			return fmt.Errorf("answered by %v", who)
		}
		return nil
	})
}

func TestServicesLeadToPodsOfAllHosts(t *testing.T) {
	c := three(t)
	hosts := []string{"n1", "n2", "n3"}
	for _, h := range hosts {
		c.drop(h, "web.yaml", named(h))
	}
	c.drop("n2", "service.yaml", webService)
	const jsonpath = "shoal get service web -o jsonpath="
	c.until("n1", "shoal get service web -o jsonpath={.spec.clusterIP} | grep -q 10.96.")
	ip, port := c.sh("n1", jsonpath+"{.spec.clusterIP}"), c.sh("n1", jsonpath+"{.spec.ports[0].nodePort}")
	for _, h := range hosts {
		c.show([]string{h}, ip+" "+port, jsonpath+"'{.spec.clusterIP} {.spec.ports[0].nodePort}'")
		c.leads(h, "", ip+":8000", hosts...)
		c.leads(h, "web-"+h, ip+":8000", hosts...)
		c.leads(h, "web-"+h, "web.default:8000", hosts...)
	}
	c.leads("n1", "", "10.99.0.13:"+port, hosts...)
	c.leads("n1", "web-n1", "10.99.0.12:"+port, hosts...)
	c.show(hosts, "3", `shoal get endpointslices -l kubernetes.io/service-name=web -o jsonpath='{.items[*].endpoints[*].addresses[0]}' | wc -w`)
	c.show(hosts, "3", `shoal get endpoints web -o jsonpath='{.subsets[*].addresses[*].ip}' | wc -w`)

	// Somebody else's tool throws the rules away, and a daemon dies while it leads.
	c.sh("n1", "nft delete table inet shoal-services")
	c.leads("n1", "", ip+":8000", hosts...)
	c.sh("n2", "systemctl stop shoald")
	if who := c.answers("n2", "", ip+":8000", 10); slices.Contains(who, "nobody") {
		t.Errorf("without a daemon, it leads to %v", who)
	}
	c.sh("n2", "systemctl start shoald")

	// A pod goes, then a host.
	c.sh("n2", "rm /etc/shoal/manifests/web.yaml")
	for _, h := range hosts {
		c.leads(h, "", ip+":8000", "n1", "n3")
	}
	if err := c.Host("n3").PowerCut(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.leads("n1", "", ip+":8000", "n1")
	c.leads("n2", "", ip+":8000", "n1")

	c.sh("n2", "rm /etc/shoal/manifests/service.yaml")
	c.until("n1", "! shoal get service web 2>/dev/null")
	c.until("n1", "! nft list table inet shoal-services | grep -q "+ip)
}

// load asks an address until it is told to stop, and says what failed.
const load = `ok=0; while [ ! -e /run/load.stop ]; do
if curl -sSf -m 5 http://$1/ >/dev/null 2>/run/load.err; then ok=$((ok+1)); else echo "$(date +%T.%N) $(cat /run/load.err)" >> /run/load.failed; fi
done; echo $ok > /run/load.ok`

// TestARollingUpdateFailsNoRequest: its pods have no preStop hook, and end at once when they are told to.
func TestARollingUpdateFailsNoRequest(t *testing.T) {
	c := three(t)
	hosts := []string{"n1", "n2", "n3"}
	_, server, _ := strings.Cut(echo("n1"), "command: ")
	server = strings.Replace(strings.TrimSpace(server), "$SIG{CHLD} =", "$SIG{TERM} = sub { exit }; $SIG{CHLD} =", 1)
	c.drop("n1", "web.yaml", `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: c
        image: rootfs:///
        command: `+server+`
        readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
`)
	c.drop("n1", "service.yaml", strings.Replace(webService, "type: NodePort", "type: ClusterIP", 1))
	const rolled = "shoal rollout status deployment web --timeout=60s"
	c.until("n1", rolled)
	c.until("n1", "shoal get service web -o jsonpath={.spec.clusterIP} | grep -q 10.96.")
	ip := c.sh("n1", "shoal get service web -o jsonpath={.spec.clusterIP}")
	for _, h := range hosts {
		c.until(h, "curl -sf -m 2 http://"+ip+":8000/")
		c.sh(h, `rm -f /run/load.*; systemd-run -q -u load sh -c "$1" sh "$2"`, load, ip+":8000")
	}
	for range 3 {
		c.sh("n2", "shoal rollout restart deployment web; "+rolled)
	}
	for _, h := range hosts {
		c.sh(h, "touch /run/load.stop")
		c.until(h, "test -e /run/load.ok")
		failed := c.sh(h, "cat /run/load.failed 2>/dev/null || true")
		asked := c.sh(h, "cat /run/load.ok")
		if failed != "" || asked == "0" {
			t.Errorf("%s: %s requests were answered, and not these:\n%s", h, asked, failed)
		}
		t.Logf("%s: %s requests", h, asked)
	}
}
