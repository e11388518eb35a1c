package enforce

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// The formulas of KEP-2570, with the default throttling factor of 0.9.
func TestMemoryQoSProtectsRequestsAndThrottlesBeforeTheLimit(t *testing.T) {
	drop(t, "qos", idle("fixed", "{limits: {cpu: 1, memory: 64Mi}}")+"---\n"+
		idle("elastic", "{requests: {memory: 32Mi}, limits: {memory: 96Mi}}")+"---\n"+
		idle("open", "{requests: {memory: 16Mi}}"))
	for _, pod := range []string{"fixed", "elastic", "open"} {
		running(t, pod)
	}
	values := func(pod string) string {
		return "for f in min low high max; do cat " + scope(pod) + "/main/memory.$f; done | xargs; " +
			"for f in min low high max; do cat " + scope(pod) + "/memory.$f; done | xargs"
	}
	const mi = 1 << 20
	capacity := shell(t, `shoal get node -o jsonpath='{.items[0].status.allocatable.memory}' | tr -d Ki`)
	allocatable, err := strconv.ParseInt(capacity, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	allocatable *= 1024
	high := func(request, limit int64) int64 {
		return (request + (limit-request)*9/10) / 4096 * 4096
	}
	await(t, fmt.Sprintf("%d 0 max %[1]d\n%[1]d 0 max %[1]d", 64*mi), values("fixed"))
	await(t, fmt.Sprintf("0 %d %d %d\n0 %[1]d max %[3]d", 32*mi, high(32*mi, 96*mi), 96*mi), values("elastic"))
	await(t, fmt.Sprintf("0 %d %d max\n0 %[1]d max max", 16*mi, high(16*mi, allocatable)), values("open"))
	// A child is protected only as far as its parents are.
	await(t, fmt.Sprintf("%d %d", (64+32+16)*mi, (32+16)*mi), "cat /sys/fs/cgroup/shoal.slice/memory.min /sys/fs/cgroup/shoal.slice/shoal-burstable.slice/memory.low | xargs")

	shell(t, "rm /etc/shoal/manifests/qos.yaml")
	await(t, "0 0", "cat /sys/fs/cgroup/shoal.slice/memory.min /sys/fs/cgroup/shoal.slice/shoal-burstable.slice/memory.low | xargs")
}

// idle is a pod that does nothing.
func idle(name, resources string) string {
	return strings.Replace(loops(name, 1, resources), "while :; do :; done", "exec sleep infinity", 1)
}
