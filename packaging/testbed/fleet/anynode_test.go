package fleet

import (
	"fmt"
	"strings"
	"testing"
)

// far is a pod on n2 that counts, and serves what is in /www.
const far = `
apiVersion: v1
kind: Pod
metadata: {name: far}
spec:
  nodeName: n2
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: rootfs:///
    command: [sh, -c, "trap exit TERM; i=0; while true; do echo line $i; i=$((i+1)); sleep 0.2; done"]
`

const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: main, image: "rootfs:///", command: [sleep, "1000"]}
`

// TestAnyNodeAnswersForThePodsOfAll: what kubectl asks of a pod, on a host that
// does not have it.
func TestAnyNodeAnswersForThePodsOfAll(t *testing.T) {
	c := three(t)
	c.drop("n3", "far.yaml", far)
	c.until("n1", "shoal wait --for=condition=Ready pod/far --timeout=1s")
	for _, tt := range []struct{ name, script, want string }{
		{"logs", `shoal logs far | head -1`, "line 0"},
		{"logs that go on", `timeout 5 shoal logs -f far | head -2 | tail -1`, "line 1"},
		{"exec", `shoal exec far -- cat /etc/hostname`, "far"},
		{"exit codes", `shoal exec far -- sh -c 'exit 7' 2>/dev/null || echo $?`, "7"},
		{"input", `echo loud | shoal exec -i far -- tr a-z A-Z`, "LOUD"},
		{"a terminal", `script -qec 'shoal exec -it far -- tty' /dev/null | tr -d '\r\0'`, "/dev/pts/0"},
		{"cp", `head -c 300000 /dev/urandom >/root/up; { shoal cp /root/up far:/tmp/x; shoal cp far:/tmp/x /root/down; } >/dev/null 2>&1; cmp /root/up /root/down && echo same`, "same"},
		{"top pods", `shoal top pod far --no-headers | cut -d' ' -f1`, "far"},
		{"top nodes", `shoal top nodes --no-headers | cut -d' ' -f1 | sort | tr '\n' ' '`, "n1 n2 n3 "},
		{"events", `shoal get events --field-selector involvedObject.name=far,reason=Started -o jsonpath='{.items[*].source.host}'`, "n2"},
		{"describe", `shoal describe pod far | grep -c 'Container started'`, "1"},
		{"debug", `shoal debug far --image=rootfs:/// -c probe --attach -- hostname 2>/dev/null`, "far"},
		{"summary", `shoal get --raw /api/v1/nodes/n2/proxy/stats/summary | grep -c '"nodeName": *"n2"'`, "1"},
	} {
		c.show([]string{"n1"}, strings.TrimSpace(tt.want), tt.script)
	}
	c.show([]string{"n3"}, "200 bytes", `python3 - <<'END'
import socket, subprocess, time
# A server in the pod, by exec, and a forward to it.
s = subprocess.Popen(["shoal", "exec", "far", "--", "python3", "-c", "import socket; l=socket.create_server(('127.0.0.1', 8099)); c,_=l.accept(); c.sendall(b'x'*200); c.close()"])
f = subprocess.Popen(["shoal", "port-forward", "pod/far", "18099:8099"], stdout=subprocess.PIPE)
f.stdout.readline()
deadline = time.time() + 20
while time.time() < deadline:
    c = socket.create_connection(("127.0.0.1", 18099))
    n = 0
    while b := c.recv(1000): n += len(b)
    if n: break
print(n, "bytes")
f.kill(); s.kill()
END`)
}

// TestAnyNodeTakesWrites of all objects, and reads what it has taken.
func TestAnyNodeTakesWrites(t *testing.T) {
	c := three(t)
	for i, host := range []string{"n1", "n2", "n3"} {
		other := []string{"n2", "n3", "n1"}[i]
		c.sh(host, fmt.Sprintf(`for n in 1 2 3 4 5 6; do
			shoal create cm %[1]s-$n --from-literal=a=1
			shoal patch cm %[1]s-$n -p '{"data":{"b":"2"}}'
			[ "$(shoal get cm %[1]s-$n -o jsonpath='{.data}')" = '{"a":"1","b":"2"}' ]
		done`, host))
		c.until(other, fmt.Sprintf(`shoal delete cm %[1]s-1 %[1]s-2 %[1]s-3 %[1]s-4 %[1]s-5 %[1]s-6`, host))
		c.show([]string{host}, "", "shoal get cm -o name")
		c.sh(host, fmt.Sprintf("shoal cordon %[1]s; shoal label node %[1]s forwarded=yes; shoal taint node %[1]s odd=yes:NoSchedule", other))
		c.show([]string{"n1", "n2", "n3"}, "true yes odd", fmt.Sprintf(`shoal get node %s -o jsonpath='{.spec.unschedulable} {.metadata.labels.forwarded} {.spec.taints[?(@.key=="odd")].key}'`, other))
		c.sh(host, fmt.Sprintf("shoal uncordon %[1]s; shoal label node %[1]s forwarded-; shoal taint node %[1]s odd-", other))
	}
	c.sh("n1", "shoal create -f - <<'END'\n"+web+"END\nshoal rollout status deployment web --timeout=60s")
	c.sh("n2", "shoal scale deployment web --replicas=1; shoal rollout status deployment web --timeout=60s")
	c.sh("n3", "shoal delete deployment web --timeout=60s")
	for _, host := range []string{"n1", "n2", "n3"} {
		c.until(host, `[ -z "$(shoal get pods -o name)" ]`)
	}
}

// TestNoUpdateIsLostOverHosts: three hosts count up one number by what they read.
func TestNoUpdateIsLostOverHosts(t *testing.T) {
	c := three(t)
	c.sh("n1", "shoal create cm counter --from-literal=count=0")
	t.Cleanup(func() { c.try("n1", "shoal delete cm counter --ignore-not-found") })
	done := make(chan error, 3)
	for _, host := range []string{"n1", "n2", "n3"} {
		go func() {
			_, err := c.try(host, `cd /root; i=0; while [ $i -lt 10 ]; do
				if shoal get cm counter -o yaml >was 2>why; then
					n=$(sed -n 's/^  count: "\(.*\)"/\1/p' was)
					sed "s/^  count: .*/  count: \"$((n+1))\"/" was >next
					if shoal replace -f next >/dev/null 2>why; then i=$((i+1)); continue; fi
				fi
				grep -qE 'has been modified|not found' why || { cat why; exit 1; }
			done`)
			done <- err
		}()
	}
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	c.show([]string{"n1", "n2", "n3"}, "30", "shoal get cm counter -o jsonpath={.data.count}")
}

// TestAnAnsweredWriteOutlivesItsHost: whichever host carried it out loses its power the moment
// it was answered.
func TestAnAnsweredWriteOutlivesItsHost(t *testing.T) {
	c := three(t)
	c.sh("n1", "for i in 1 2 3 4 5 6 7 8; do shoal create cm kept-$i --from-literal=a=b; done")
	if err := c.Host("n1").PowerCut(c.Context()); err != nil {
		t.Fatal(err)
	}
	c.show([]string{"n2", "n3"}, "8", "shoal get cm -o name | grep -c kept-")
	if err := c.Host("n1").Start(c.Context()); err != nil {
		t.Fatal(err)
	}
	c.together("n1", "n2", "n3")
	c.sh("n1", "shoal delete cm kept-1 kept-2 kept-3 kept-4 kept-5 kept-6 kept-7 kept-8")
}

// TestAStreamEndsWithTheDaemonThatHasIt, and with the network to it; then the
// reason is told, and others are named that are not in sight.
func TestAStreamEndsWithTheDaemonThatHasIt(t *testing.T) {
	c := three(t)
	c.drop("n3", "far.yaml", far)
	c.until("n1", "shoal wait --for=condition=Ready pod/far --timeout=1s")
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name      string
		end, mend func()
	}{
		{"kill", func() { c.sh("n2", "systemctl kill -s KILL --kill-whom=main shoald") }, func() {}},
		{"cut", func() { must(c.Cut(c.Context(), "n2")) }, func() { must(c.Heal(c.Context())) }},
	} {
		c.sh("n1", `rm -f /root/log; systemd-run -q --unit far-log --collect sh -c 'timeout 100 shoal logs -f far --tail=1 >/root/log 2>&1; echo "ended $?" >>/root/log'`)
		c.until("n1", "grep -q line /root/log")
		tt.end()
		c.until("n1", "grep -q '^ended 1$' /root/log")
		if tt.name == "cut" {
			c.until("n1", "shoal logs far 2>&1 | grep -q \"node n2 can't be reached: it is not in sight\"")
			// What people set of a node that is lost is kept elsewhere until it is back.
			c.until("n1", "shoal cordon n2")
			c.until("n3", "shoal get node n2 -o jsonpath='{.spec.unschedulable}' | grep true")
			c.until("n1", "shoal get events 2>&1 >/dev/null | grep -q 'no answer in time from node n2'")
		}
		tt.mend()
		if tt.name == "cut" {
			for _, host := range []string{"n2", "n3"} {
				c.until(host, "shoal get node n2 -o jsonpath='{.spec.unschedulable} {.spec.taints[*].key}' | grep -x 'true node.kubernetes.io/unschedulable'")
			}
			c.sh("n3", "shoal uncordon n2")
		}
		c.until("n1", "shoal logs far --tail=1 | grep -q line")
	}
}
