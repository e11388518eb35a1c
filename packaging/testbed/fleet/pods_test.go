package fleet

import (
	"fmt"
	"strconv"
	"testing"
)

// workloads are the Deployment web, whose pods leave a lost host after 2 s, and the DaemonSet agent.
func workloads(replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: %d
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      containers: [{name: main, image: "rootfs:///", command: [sh, -c, "trap exit TERM; echo web on $(cat /etc/machine-id); while :; do sleep 1 & wait $!; done"]}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: "rootfs:///", command: [sh, -c, "trap exit TERM; echo agent; while :; do sleep 1 & wait $!; done"]}]
`, replicas)
}

// scopes is how many pods of a workload run on each host, by what systemd says.
func (c cluster) scopes(workload string, hosts ...string) map[string]int {
	c.Helper()
	count := map[string]int{}
	for _, host := range hosts {
		out := c.sh(host, `systemctl list-units --plain --no-legend --state=active "shoal-default-$1-*.scope" | wc -l`, workload)
		n, err := strconv.Atoi(out)
		if err != nil {
			c.Fatal(err)
		}
		count[host] = n
	}
	return count
}

// spread waits until a Deployment's pods and a DaemonSet's run on these hosts: as many as asked for, and neither fewer nor more
// of them in systemd's eyes.
func (c cluster) spread(replicas int, hosts ...string) {
	c.Helper()
	c.show(hosts, fmt.Sprint(replicas, replicas), `shoal get deploy web -o jsonpath='{.status.replicas} {.status.readyReplicas}'`)
	c.eventually("as many pods run as are wanted", func() error {
		web, agents := c.scopes("web", hosts...), c.scopes("agent", hosts...)
		sum := 0
		for _, host := range hosts {
			sum += web[host]
			if agents[host] != 1 {
				return fmt.Errorf("agents: %v", agents)
			}
		}
		if sum != replicas {
			return fmt.Errorf("web: %v, want %d", web, replicas)
		}
		return nil
	})
}

func TestWorkloadsAreOneOverAllHosts(t *testing.T) {
	c := three(t)
	c.drop("n1", "web.yaml", workloads(6))
	c.spread(6, all...)
	for host, n := range c.scopes("web", all...) {
		if n != 2 {
			t.Errorf("%s runs %d of 6", host, n)
		}
	}
	uids := `shoal get pods -o jsonpath='{range .items[*]}{.metadata.uid}{"\n"}{end}' | sort`
	before := c.sh("n1", uids)
	c.show(all, before, uids)

	// The Ansible way: the same file everywhere is the same object, and nothing is replaced for it.
	for _, host := range all {
		c.drop(host, "web.yaml", workloads(6))
	}
	for _, host := range all {
		c.until(host, "test $(shoal manifests | grep -c web.yaml) -ge 1")
	}
	c.spread(6, all...)
	c.show(all, before, uids)

	for _, host := range all {
		c.drop(host, "web.yaml", workloads(3))
	}
	c.spread(3, all...)
	for _, host := range all {
		c.sh(host, "rm /etc/shoal/manifests/web.yaml")
	}
	c.show(all, "", "shoal get pods -o name; systemctl list-units --no-legend 'shoal-*.scope'")
}

func TestAnyHostAnswersForAllPods(t *testing.T) {
	c := three(t)
	for _, node := range all {
		c.drop("n1", node+".yaml", pinned("on-"+node, node))
	}
	for _, host := range all {
		for _, node := range all {
			c.show([]string{host}, "started on on-"+node, "shoal logs on-"+node)
			c.show([]string{host}, "on-"+node, "shoal exec on-"+node+" -- hostname")
		}
	}
}
