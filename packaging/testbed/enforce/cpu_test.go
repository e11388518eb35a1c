package enforce

import (
	"os"
	"strings"
	"testing"
)

// layout is a script that tells of each pod, one a line, where it may run and
// its quota, of the scope as a whole, of the pause process and conmon (init) and
// of the container; and of each process that may run elsewhere than its cgroup.
const layout = `cd /sys/fs/cgroup/shoal.slice
at() { read -r cpus <$1/cpuset.cpus.effective; read -r quota _ <$1/cpu.max; }
for d in shoal-default-*.scope */shoal-default-*.scope; do
	test -d $d || continue
	at $d; pod=${d##*/shoal-default-}; pod=${pod#shoal-default-}; line="${pod%-*}: $cpus $quota"
	for leaf in init main; do
		at $d/$leaf; line="$line, $leaf $cpus $quota"
		for p in $(cat $d/$leaf/cgroup.procs); do
			while read -r key allowed; do
				test $key != Cpus_allowed_list: || test $allowed = $cpus || line="$line, $p on $allowed"
			done </proc/$p/status
		done
	done
	echo "$line"
done | sort`

// processes is a script that tells who runs in pods, and what the daemon counts.
const processes = `cat /sys/fs/cgroup/shoal.slice/*.scope/*/cgroup.procs /sys/fs/cgroup/shoal.slice/*/*.scope/*/cgroup.procs | sort -n
shoal get pods -o jsonpath='{range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].containerID}{"\n"}{end}'`

const reload = "systemctl kill -s HUP --kill-whom=main shoald"

// Four processors: 0 and 1 are the threads of one core, 2 and 3 of the other.
func TestTheStaticPolicyGivesCoresAndTakesThemBackLive(t *testing.T) {
	if os.Getenv("SHOAL_TESTBED_FULL") == "" {
		t.Skip("takes minutes: make test-full sets SHOAL_TESTBED_FULL=1")
	}
	drop(t, "others", idle("best", "{}")+"---\n"+idle("burst", "{requests: {cpu: 100m}}")+"---\n"+idle("part", "{limits: {cpu: 900m, memory: 32Mi}}"))
	holder := func(cpu string) { drop(t, "holder", idle("holder", "{limits: {cpu: "+cpu+", memory: 32Mi}}")) }
	holder("1")
	for _, pod := range []string{"best", "burst", "part", "holder"} {
		running(t, pod)
	}
	// others is the layout where those who share have the processors shared.
	others := func(shared, holder string) string {
		return strings.ReplaceAll(`best: S max, init S max, main S max
burst: S max, init S max, main S max
`+holder+`
part: S 90000, init S max, main S 90000`, "S", shared)
	}
	none := others("0-3", "holder: S 100000, init S max, main S 100000")
	await(t, none, layout)
	before := shell(t, processes)
	same := func(when string) {
		t.Helper()
		if now := shell(t, processes); now != before {
			t.Errorf("%s: other processes or restarts: before\n%s\nnow\n%s", when, before, now)
		}
	}

	// A reload puts the policy in force under running pods, and a kill changes nothing.
	configure(t, "[cpu]\npolicy = \"static\"\nreserved = \"0\"\nstrict_reservation = true\n", reload)
	one := others("2-3", "holder: 1-3 max, init S max, main 1 max")
	await(t, one, layout)
	same("policy static")
	shell(t, kill)
	if got := shell(t, layout); got != one {
		t.Errorf("without a daemon:\n%s", got)
	}
	shell(t, start)
	await(t, one, layout)
	same("after a kill")
	await(t, "shared 2-3", `shoal get node -o jsonpath='{.items[0].metadata.annotations.shoal\.io/cpus}' | grep -o 'shared [^;]*'`)

	// More, without a restart; and a kill while the others are being moved.
	holder("2")
	shell(t, kill+"; "+start)
	await(t, others("3", "holder: 1-3 max, init S max, main 1-2 max"), layout)
	await(t, "", `shoal get pod holder -o jsonpath='{.status.conditions[?(@.type=="PodResizeInProgress")]}{.status.conditions[?(@.type=="PodResizePending")]}'`)
	await(t, "2", `shoal get pod holder -o jsonpath='{.status.containerStatuses[0].resources.limits.cpu}'`)
	same("two cores")

	t.Run("a quota of two on one processor gives one", func(t *testing.T) {
		drop(t, "two", loops("two", 3, "{requests: {cpu: 10m}, limits: {cpu: 2}}"))
		running(t, "two")
		if got := shell(t, layout+" | grep ^two"); got != "two: 3 200000, init 3 max, main 3 200000" {
			t.Errorf("it runs so: %s", got)
		}
		if used := usage(t, "two")[0]; !used.within(600, 1100) {
			t.Errorf("used %.0fm of a quota of 2000m on one processor", used)
		}
	})

	t.Run("what the host can never give is infeasible", func(t *testing.T) {
		holder("9")
		await(t, "Infeasible Node didn't have enough capacity: cpu, requested: 9, capacity: 3", pendingResize)
		await(t, "2", `shoal get pod holder -o jsonpath='{.status.containerStatuses[0].resources.limits.cpu}'`)
		holder("2")
		await(t, "", pendingResize)
	})

	// A fraction: back to the shared ones, under a quota.
	holder("500m")
	await(t, others("1-3", "holder: S 50000, init S max, main S 50000"), layout)
	same("half a core")

	// Whole cores only: who asks for one thread is refused, who runs is left alone.
	configure(t, "[cpu]\npolicy = \"static\"\nreserved = \"0\"\nfull_pcpus_only = true\n", reload)
	drop(t, "thread", idle("thread", "{limits: {cpu: 1, memory: 32Mi}}"))
	await(t, "Failed SMTAlignmentError", `shoal get pod thread -o jsonpath='{.status.phase} {.status.reason}'`)
	drop(t, "core", idle("core", "{limits: {cpu: 2, memory: 32Mi}}"))
	await(t, "core: 0-3 max, init 0-1 max, main 2-3 max", layout+" | grep ^core")
	shell(t, "rm /etc/shoal/manifests/core.yaml /etc/shoal/manifests/thread.yaml")
	await(t, others("0-3", "holder: S 50000, init S max, main S 50000"), layout)

	configure(t, "", reload)
	holder("1")
	await(t, none, layout)
	same("policy none")
}

const pendingResize = `shoal get pod holder -o jsonpath='{.status.conditions[?(@.type=="PodResizePending")].reason} {.status.conditions[?(@.type=="PodResizePending")].message}' | sed 's/^ $//'`
