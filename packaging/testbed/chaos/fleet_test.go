package chaos

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

var (
	rounds   = flag.Int("rounds", 0, "how many rounds the storm over several hosts has; it is skipped without them and without -for")
	duration = flag.Duration("for", 0, "for how long it goes on, in place of -rounds")
	hold     = flag.Bool("hold", false, "keep the hosts of a storm that failed until the test is interrupted (SIGINT)")
)

// calm is how long a cluster that is left alone may take until all is as it should be: a lost node's grace, Serf's
// suspicions, back-off of containers that were killed.
const calm = 2 * time.Minute

// TestFleetStorm breaks five hosts that are one cluster, in rounds, and sees after each that nothing is amiss.
func TestFleetStorm(t *testing.T) {
	if *rounds == 0 && *duration == 0 {
		t.Skip("make chaos runs it, for minutes")
	}
	n := *seed
	if n == 0 {
		n = rand.Uint64()
	}
	t.Logf("-run FleetStorm -seed %d", n)
	c := newCluster(t, 5)
	c.load()
	before, took := c.settle(calm)
	t.Logf("%d pods on %d hosts after %.1f s", len(before.views["n1"].Pods), len(c.hosts), took.Seconds())
	for number := 0; number < *rounds || time.Since(c.begin) < *duration; number++ {
		r := Draw(n, number, c.hosts)
		t.Logf("%.0f s: %s", time.Since(c.begin).Seconds(), r)
		c.carryOut(r)
		c.heal()
		c.vague = slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Do == SetClock })
		after, took := c.settle(calm)
		t.Logf("round %d: all as it should be after %.1f s, with %d pods", number, took.Seconds(), len(after.views["n1"].Pods))
		if r.Gentle {
			for _, m := range Moved(staying(r, before), staying(r, after)) {
				t.Errorf("in a round that may move nothing: %s", m)
			}
		}
		for _, o := range Overlaps(c.ledger()) {
			t.Errorf("two writers of what only one may write: %s", o)
		}
		c.untouched(r, before, after)
		c.seen(after)
		before = after
	}
	c.checkIdle()
	for _, what := range slices.Sorted(maps.Keys(c.did)) {
		t.Logf("%4d x %s (%d in vain)", c.did[what], what, c.missed[what])
	}
}

// staying are the pods that a round may not move: all, or where a daemon crashes again and again, exclusive ones.
func staying(r Round, s sight) map[string]Stay {
	stays := s.views["n1"].Stays()
	if slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Do == CrashLoop }) {
		maps.DeleteFunc(stays, func(name string, _ Stay) bool { return !strings.HasPrefix(name, "default/ledger-") })
	}
	return stays
}

// ledger is all that exclusive writers ever wrote, on whichever host.
func (c *cluster) ledger() (all []Appended) {
	c.t.Helper()
	var mu sync.Mutex
	c.each(func(h *bed.Host) error {
		text, err := h.Shell(c.t.Context(), "cat /var/log/ledger/* 2>/dev/null || true; echo end")
		if err != nil {
			return err
		}
		list, err := ReadAppended(text) // "end" is no whole line
		mu.Lock()
		defer mu.Unlock()
		all = append(all, list...)
		return err
	})
	return all
}

// load is what runs before anything is broken.
func (c *cluster) load() {
	for _, name := range everywhere {
		c.files[name] = "first"
	}
	c.spread()
	for i, name := range somewhere {
		c.on(c.hosts[i%len(c.hosts)]).shell(writeFile, "/etc/shoal/manifests/"+name+".yaml", fileText(name, "first"))
	}
	for _, name := range []string{scaledByAPI, rolledByAPI} {
		c.until(func(ctx context.Context) error {
			_, err := c.bed.Host("n1").Shell(ctx, `printf %s "$1" | shoal apply -f -`, fileText(name, "first"))
			return err
		})
	}
	c.calls[scaledByAPI], c.calls[rolledByAPI] = Known("3", c.now()), Known("first", c.now())
}

func (c *cluster) until(try func(context.Context) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) now() time.Duration { return time.Since(c.begin) }

const writeFile = `printf %s "$2" > /root/next.$$; mv /root/next.$$ "$1"`

const script = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"

// fileText is an object's file at an edit.
func fileText(name, edit string) string {
	spec := fmt.Sprintf(`{terminationGracePeriodSeconds: 1, containers: [{name: main, image: "rootfs:///", command: [sh, -c, %q], env: [{name: %s, value: %q}]}]`, script, edited, edit)
	meta := fmt.Sprintf("metadata:\n  name: %s\n  annotations: {%s: %q}\n", name, edited, edit)
	workload := func(kind, more string) string {
		return fmt.Sprintf("apiVersion: apps/v1\nkind: %s\n%sspec:\n%s  selector: {matchLabels: {app: %s}}\n  template:\n    metadata: {labels: {app: %s}}\n    spec: %s}\n", kind, meta, more, name, name, spec)
	}
	switch host, pinned := strings.CutPrefix(name, "pinned-"); {
	case pinned:
		return fmt.Sprintf("apiVersion: v1\nkind: Pod\n%s  labels: {round: $ROUND}\nspec: %s, nodeName: %s}\n", meta, spec, host)
	case name == "agent":
		return workload("DaemonSet", "")
	case name == "web": // its size follows from the edit
		return workload("Deployment", fmt.Sprintf("  replicas: %d\n", 2+len(edit)%3*2))
	case name == "ledger":
		return ledger(meta)
	case name == scaledByAPI, name == rolledByAPI:
		return workload("Deployment", "  replicas: 3\n")
	default:
		return fmt.Sprintf("apiVersion: v1\nkind: Pod\n%sspec: %s}\n", meta, spec)
	}
}

// ledger is a Deployment whose pod appends to a log of its host for as long as it runs: its token, the time since the machine's
// boot, and who it is.
func ledger(meta string) string {
	edit := regexp.MustCompile(edited + `: ("[^"]*")`).FindStringSubmatch(meta)[1]
	return "apiVersion: apps/v1\nkind: Deployment\n" + meta + `spec:
  replicas: 1
  strategy: {type: Recreate}
  selector: {matchLabels: {app: ledger}}
  template:
    metadata: {labels: {app: ledger}, annotations: {shoal.io/exclusive: ledger}}
    spec:
      terminationGracePeriodSeconds: 1
      volumes: [{name: log, hostPath: {path: /var/log/ledger, type: DirectoryOrCreate}}]
      containers:
      - name: main
        image: "rootfs:///"
        command: [sh, -c, 'trap "exit 0" TERM; me=$NODE/$(hostname)/$(cut -d" " -f22 /proc/$$/stat); while read -r up idle < /proc/uptime; do echo "ledger $SHOAL_FENCING_TOKEN $up $me" >> /ledger/log; sleep 0.1; done']
        env: [{name: ` + edited + `, value: ` + edit + `}, {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        volumeMounts: [{name: log, mountPath: /ledger}]
`
}

// carryOut does what a round says, each step at its time, and returns when the last one is over.
func (c *cluster) carryOut(r Round) {
	begin := time.Now()
	var all sync.WaitGroup
	for _, s := range r.Steps {
		all.Go(func() {
			timer := time.NewTimer(s.At - time.Since(begin))
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-c.t.Context().Done():
				return
			}
			err := c.step(s)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.did[s.Do]++
			if err != nil {
				c.missed[s.Do]++
			}
		})
	}
	all.Wait()
}

// step does one thing. An error is one that others explain: a host that is off does nothing.
func (c *cluster) step(s Step) error {
	switch s.Do {
	case Cut, Lose:
		return c.disturb(s)
	case Off:
		return c.powerCut(s)
	case Write, Remove, Scale, Roll:
		return c.call(s)
	case EditAll, EditOne, RemoveFile:
		return c.edit(s)
	case Evict:
		_, err := c.run(s, `p=$(shoal get pods -l "app=$1" -o name | shuf -n1); timeout 10 shoal delete --wait=false "$p"`, s.Object)
		return err
	}
	_, err := c.run(s, onHost[s.Do], fmt.Sprintf("%.1f", s.For.Seconds()), s.Value)
	return err
}

// onHost are the scripts of what is done to processes; $1 is for how long. Pods that are pinned are left alone, and so is who was
// killed before: the back-off would be waited out.
// Without -shoald.clock the daemon has no clock of its own, and does not notice that it was set.
var onHost = map[Verb]string{
	Freeze:        `p=$(pgrep -xo shoald); kill -STOP "$p"; sleep "$1"; kill -CONT "$p"`,
	Kill:          `kill -9 "$(pgrep -xo shoald)"`,
	KillTwo:       `old=$(pgrep -xo shoald); kill -9 "$old"; for i in $(seq 500); do new=$(pgrep -xo shoald || echo "$old"); test "$new" = "$old" || break; done; sleep 0.0$((RANDOM % 10)); kill -9 "$new"`,
	Restart:       "systemctl restart shoald",
	KillConmon:    victim + `kill -9 "$(cat "$scope/init/cgroup.procs" | xargs ps -o pid=,comm= -p | awk '$2 == "conmon" { print $1 }' | shuf -n1)"`,
	KillPause:     victim + `kill -9 "$(cat "$scope/init/cgroup.procs" | xargs ps -o pid=,comm= -p | awk '$2 == "catatonit" { print $1 }' | shuf -n1)"`,
	KillContainer: victim + `kill -9 "$(head -n1 "$scope/main/cgroup.procs")"`,
	Forget:        "systemctl kill --signal=KILL --kill-whom=main shoald; systemctl stop shoald; rm /var/lib/shoal/store.db; systemctl start shoald",
	CrashLoop:     `end=$(($(date +%s%N) / 1000000 + $(echo "$1" | tr -d .) * 100)); while test $(($(date +%s%N) / 1000000)) -lt $end; do kill -9 "$(pgrep -xo shoald)" || true; sleep 0.3; done`,
	KillLease:     `kill -9 "$(pgrep -xo shoal-lease)"`,
	FreezeLease:   `p=$(pgrep -xo shoal-lease); kill -STOP "$p"; sleep "$1"; kill -CONT "$p"`,
	SetClock:      `echo "$2" > ` + clockFile + `; sleep "$1"; rm -f ` + clockFile,
	StopScope:     victim + `systemctl stop --no-block "${scope##*/}"`,
}

const victim = `uid=$(ls -d /run/shoal/pods/*/containers/main/0 | cut -d/ -f5 | while read u; do ls -d /var/log/pods/default_*_$u | grep -q pinned || echo $u; done | shuf -n1)
scope=$(echo /sys/fs/cgroup/shoal.slice/*/shoal-*-"$(echo $uid | cut -c1-8)".scope); test -d "$scope"
`

// run runs a script on the step's first host.
func (c *cluster) run(s Step, script string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), s.For+20*time.Second)
	defer cancel()
	return c.bed.Host(s.On[0]).Run(ctx, append([]string{"bash", "-euc", script, "bash"}, args...)...)
}

// disturb holds a trouble of the network up for a while.
func (c *cluster) disturb(s Step) error {
	troubles := []bed.Trouble{{From: s.On, To: s.Against, Loss: s.Percent}}
	if s.Do == Cut {
		troubles = append(troubles, bed.Trouble{From: s.Against, To: s.On, Loss: s.Percent})
	}
	var mine []int
	change := func(how func()) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		how()
		return c.bed.Disturb(c.t.Context(), slices.Collect(maps.Values(c.troubles))...)
	}
	err := change(func() {
		for _, t := range troubles {
			c.number++
			c.troubles[c.number] = t
			mine = append(mine, c.number)
		}
	})
	if err != nil {
		return err
	}
	c.wait(s.For)
	return change(func() {
		for _, n := range mine {
			delete(c.troubles, n)
		}
	})
}

func (c *cluster) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.t.Context().Done():
	}
}

func (c *cluster) powerCut(s Step) error {
	var all sync.WaitGroup
	errs := make(chan error, 2*len(s.On))
	for _, name := range s.On {
		all.Go(func() {
			errs <- c.bed.Host(name).PowerCut(c.t.Context())
			c.wait(s.For)
			errs <- c.bed.Host(name).Start(c.t.Context())
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// apiCalls are the scripts of API writes: $1 is the object, $2 what it is to say.
var apiCalls = map[Verb]string{
	Write: `printf '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "%s"}, "data": {"value": "%s"}}' "$1" "$2" > /tmp/write.$$
if shoal get configmap "$1" > /dev/null 2>&1; then timeout 10 shoal replace -f /tmp/write.$$; else timeout 10 shoal create -f /tmp/write.$$; fi`,
	Remove: `timeout 10 shoal delete configmap "$1"`,
	Scale:  `timeout 10 shoal scale deployment "$1" --replicas="$2"`,
	Roll:   `timeout 10 shoal set env deployment "$1" ` + edited + `="$2"`,
}

// call writes through the API and notes what was asked when, and whether it was answered.
func (c *cluster) call(s Step) error {
	call := Call{Value: s.Value, Begin: c.now(), By: s.On[0]}
	_, err := c.run(s, apiCalls[s.Do], s.Object, s.Value)
	if err == nil {
		call.End = c.now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[s.Object] = append(c.calls[s.Object], call)
	return err
}

// edit does something to an object's file on each of the step's hosts, one after the other.
func (c *cluster) edit(s Step) error {
	if s.Do == EditAll {
		c.mu.Lock()
		c.files[s.Object] = s.Value
		c.mu.Unlock()
	}
	var failed error
	for _, name := range s.On {
		at, path := s, "/etc/shoal/manifests/"+s.Object+".yaml"
		at.On = []string{name}
		var err error
		if s.Do == RemoveFile {
			_, err = c.run(at, `rm -f "$1"`, path)
		} else {
			_, err = c.run(at, writeFile, path, fileText(s.Object, s.Value))
		}
		if err != nil {
			failed = err
		}
	}
	return failed
}

// heal ends all troubles and turns on what is off; files that all hosts are to have are copied once more.
func (c *cluster) heal() {
	c.t.Helper()
	if err := c.bed.Disturb(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	c.each(func(h *bed.Host) error {
		if err := h.Start(c.t.Context()); err != nil {
			return err
		}
		_, err := h.Shell(c.t.Context(), "rm -f "+clockFile+"; pkill -CONT -x shoald || true; systemctl start shoald")
		return err
	})
	c.spread()
}

// spread puts the newest edit of each file that all hosts are to have onto all, where there is another one. The last file that
// is written on each host has a new label each time: when that is in force, the host's daemon has read all of its files.
func (c *cluster) spread() {
	c.t.Helper()
	c.spreads++
	c.each(func(h *bed.Host) error {
		for _, name := range everywhere {
			const ifAnother = `printf %s "$2" > /root/next; cmp -s /root/next "$1" || mv /root/next "$1"`
			if _, err := h.Shell(c.t.Context(), ifAnother, "/etc/shoal/manifests/"+name+".yaml", fileText(name, c.files[name])); err != nil {
				return err
			}
		}
		name := "pinned-" + h.Name()
		text := strings.ReplaceAll(fileText(name, "first"), "$ROUND", c.round())
		_, err := h.Shell(c.t.Context(), writeFile, "/etc/shoal/manifests/"+name+".yaml", text)
		return err
	})
}

func (c *cluster) round() string { return fmt.Sprintf("spread-%d", c.spreads) }

// seen forgets histories that are over: what all hosts see is what counts from here on.
func (c *cluster) seen(s sight) {
	for object := range c.calls {
		c.calls[object] = Known(s.views[c.hosts[0]].value(object), c.now())
	}
}

// untouched sees that pods which are bound to a host that kept its power run on as they did, whatever became of the others,
// the network and the daemon.
func (c *cluster) untouched(r Round, before, after sight) {
	c.t.Helper()
	for _, h := range c.hosts {
		if slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Do == Off && slices.Contains(s.On, h) }) {
			continue
		}
		pod := "default/pinned-" + h
		was := Containers(before.snapshots[h], before.views[h].Here(h))[pod+"/main"]
		is := Containers(after.snapshots[h], after.views[h].Here(h))[pod+"/main"]
		if is.Init.PID != was.Init.PID || is.Init.Start != was.Init.Start || is.Conmon.PID != was.Conmon.PID {
			c.t.Errorf("%s was process %d, is process %d: nobody touched it", pod, was.Init.PID, is.Init.PID)
		}
	}
}

// checkIdle sees that daemons with nothing to do do little.
func (c *cluster) checkIdle() {
	c.t.Helper()
	const seconds = 10
	var mu sync.Mutex
	c.each(func(h *bed.Host) error {
		out, err := h.Shell(c.t.Context(), fmt.Sprintf(`pid=$(pgrep -xo shoald); ticks() { sed 's/.*) //' /proc/$pid/stat | awk '{ print $12 + $13 }'; }
a=$(ticks); sleep %d; b=$(ticks); echo $((b - a)) $(awk '/^VmRSS/ { print $2 }' /proc/$pid/status)`, seconds))
		var ticks, rss int
		if err == nil {
			_, err = fmt.Sscan(out, &ticks, &rss)
		}
		mu.Lock()
		defer mu.Unlock()
		c.t.Logf("%s idle: %d ms of processor time in %d s, %d MB", h.Name(), 10*ticks, seconds, rss/1024)
		if ticks > seconds*100/20 { // 5 %, of ticks of 10 ms
			c.t.Errorf("%s: shoald used %d ms of processor time in %d s", h.Name(), 10*ticks, seconds)
		}
		return err
	})
}

// holdOn keeps a failed storm's hosts for somebody to look at.
func (c *cluster) holdOn() {
	if !*hold {
		return
	}
	ctx, stop := signal.NotifyContext(c.t.Context(), os.Interrupt)
	defer stop()
	fmt.Fprintf(os.Stderr, "bed %s is kept: interrupt %d to go on\n", c.bed.Name(), os.Getpid())
	<-ctx.Done()
}
