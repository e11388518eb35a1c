package enforce

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

// hog is a pod that holds some MiB.
func hog(name string, mib int, resources string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: rootfs:///
    command: [perl, -e, "open F, '</dev/zero'; sysread F, $x, %d << 20; $| = 1; print \"full\\n\"; sleep 1000000"]
    resources: %s
`, name, mib, resources)
}

func TestUnderMemoryPressureThePodThatUsesMoreThanItAskedForGoes(t *testing.T) {
	if os.Getenv("SHOAL_TESTBED_FULL") == "" {
		t.Skip("takes minutes: make test-full sets SHOAL_TESTBED_FULL=1")
	}
	drop(t, "modest", hog("modest", 150, "{requests: {memory: 300Mi}}"))
	drop(t, "small", hog("small", 20, "{}"))
	await(t, "full", "shoal logs modest")
	await(t, "full", "shoal logs small")
	// With 450 MiB less than there are now, the node is short of memory: far more
	// than what programs come and go with.
	available := shell(t, `shoal get --raw /api/v1/nodes/$(shoal get nodes -o jsonpath='{.items[0].metadata.name}')/proxy/stats/summary |
		tr -d ' \n' | sed 's/.*"node":{//; s/"pods":.*//' | grep -o '"availableBytes":[0-9]*' | head -n 1 | cut -d: -f2`)
	bytes, err := strconv.ParseInt(available, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	configure(t, fmt.Sprintf("[eviction]\ntransition_period = \"5s\"\n[eviction.hard]\n\"memory.available\" = \"%dMi\"\n", bytes>>20-450), kill+"; "+start)
	const pressure = `shoal get nodes -o jsonpath='{.items[0].status.conditions[?(@.type=="MemoryPressure")].status} {.items[0].spec.taints[*].key}'`
	await(t, "False", pressure)

	drop(t, "greedy", hog("greedy", 700, "{requests: {memory: 50Mi}}"))
	await(t, "Failed Evicted", `shoal get pod greedy -o jsonpath='{.status.phase} {.status.reason}'`)
	await(t, "1", `shoal get pod greedy -o jsonpath='{.status.message}' | grep -c '^The node was low on resource: memory. Threshold quantity: .*, available: .*. Container main was using .*, request is 50Mi, has larger consumption of memory.'`)
	await(t, "TerminationByKubelet True", `shoal get pod greedy -o jsonpath='{.status.conditions[?(@.type=="DisruptionTarget")].reason} {.status.conditions[?(@.type=="DisruptionTarget")].status}'`)
	await(t, "1", `shoal get events | grep -c 'EvictionThresholdMet'`)
	await(t, "False", pressure) // after the transition period
	for _, pod := range []string{"modest", "small"} {
		running(t, pod)
	}
}
