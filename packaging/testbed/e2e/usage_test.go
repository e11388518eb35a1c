package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// A light host has no controllers: memory is that of the container's processes.
func TestUsageIsToldInEveryForm(t *testing.T) {
	h := newShoal(t)
	if err := h.WriteFile(h.Context(), "/etc/shoal/shoal.toml", []byte("[metrics]\nlisten = \"127.0.0.1:9479\"\n")); err != nil {
		t.Fatal(err)
	}
	h.sh("systemctl restart shoald")
	h.answers()
	h.drop("one.yaml", named("one"))
	h.drop("busy.yaml", strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(sleeper, "@@", "busy"), "tier: one", "tier: two"),
		"exec sleep infinity", `perl -e 'open F, q(</dev/zero); sysread F, $x, 50 << 20; print qq(full\\n); 1 while 1'`))
	h.ready("one")
	h.ready("busy")

	// Rates of a busy machine are whatever is left for the loop: some, and more than a sleeper's.
	const field = `shoal top pods --no-headers | awk -v pod="$1" -v n="$2" '$1 == pod {print $n + 0}'`
	number := func(pod, column string) int {
		n, err := strconv.Atoi(h.sh(field, pod, column))
		if err != nil {
			return -1
		}
		return n
	}
	h.eventually("top pods shows the loop's memory and processor time", func() error {
		if cpu, memory := number("busy", "2"), number("busy", "3"); cpu < 10 || memory < 50 || memory > 80 {
			return fmt.Errorf("%dm and %dMi", cpu, memory)
		}
		return nil
	})
	if cpu, memory := number("one", "2"), number("one", "3"); cpu < 0 || cpu > 5 || memory < 0 || memory > 20 {
		t.Errorf("a sleeper uses %dm and %dMi", cpu, memory)
	}
	h.shows("busy", "shoal top pods --no-headers --sort-by=cpu | awk 'NR == 1 {print $1}'")
	h.shows("busy main", "shoal top pods -l tier=two --containers --no-headers | awk '{print $1, $2}'")
	h.until("shoal top nodes | grep -E '[0-9]m +[0-9]+% +[0-9]+Mi +[0-9]+%'")
	h.until("shoal status | grep -E '^Memory: +[0-9.]+ of [0-9.]+ GiB'")
	h.until("shoal describe node | grep -A4 'Allocated resources' | grep -q cpu")

	// A restart of the daemon starts rates anew and loses no counter.
	counter := `curl -fsS localhost:9479/metrics/resource | awk '/^container_cpu_usage_seconds_total.*pod="busy"/ {print $2}'`
	before := h.sh(counter)
	h.sh("systemctl kill -s KILL shoald; systemctl reset-failed shoald || true; systemctl start shoald")
	h.answers()
	h.until(`test "$(` + counter + `)" != "" && awk -v a="$(` + counter + `)" -v b=` + before + ` 'BEGIN {exit !(a >= b && b > 0)}'`)
	h.until("curl -fsS localhost:9479/metrics | grep -q '^shoal_pods{phase=\"Running\"} 2$'")
	h.until(`shoal get --raw /api/v1/nodes/$(shoal get nodes -o jsonpath='{.items[0].metadata.name}')/proxy/stats/summary | grep -q '"ephemeral-storage"'`)

	h.sh("rm /etc/shoal/manifests/busy.yaml")
	h.until("! shoal top pods --no-headers | grep -q busy")

	h.sh(`sed -i s/127.0.0.1/0.0.0.0/ /etc/shoal/shoal.toml`)
	if got := h.fails("shoald -check"); !strings.Contains(got, `metrics.listen = "0.0.0.0:9479": only loopback is allowed`) {
		t.Errorf("the check says %q", got)
	}
}
