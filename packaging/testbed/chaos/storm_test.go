package chaos

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	kills = flag.Int("kills", 25, "how often the storm kills shoald")
	seed  = flag.Uint64("seed", 0, "of the storm's chances; 0: a new one")
)

// storm is 20 pods, their files, and somebody who breaks things.
type storm struct {
	host
	*rand.Rand
	files  []*file
	kills  int
	did    map[string]int       // how often each thing was done
	before map[string]Container // at the last checkpoint
	moved  map[string]bool      // pods that were touched since
	names  int
}

func TestStorm(t *testing.T) {
	s := seeded(t, newHost(t))
	for _, k := range kinds() {
		f := &file{kind: k, path: k.name + ".yaml"}
		s.files = append(s.files, f)
		s.write(f)
	}
	s.checkpoint()
	const round = 20
	for s.kills < *kills {
		for end := min(s.kills+round, *kills); s.kills < end; {
			s.breakSomething()
		}
		s.checkpoint()
	}
	s.checkStatus()
	s.checkIdle()
	for _, what := range slices.Sorted(maps.Keys(s.did)) {
		t.Logf("%4d x %s", s.did[what], what)
	}
}

func seeded(t *testing.T, h host) *storm {
	n := *seed
	if n == 0 {
		n = rand.Uint64()
	}
	t.Logf("-seed %d -kills %d", n, *kills)
	return &storm{host: h, Rand: rand.New(rand.NewPCG(n, n)), did: make(map[string]int), moved: make(map[string]bool)}
}

// breakSomething does up to three things to pods and then, soon after, something to shoald.
func (s *storm) breakSomething() {
	var script strings.Builder
	for range s.IntN(4) {
		f := s.files[s.IntN(len(s.files))]
		for f.fragile {
			f = s.files[s.IntN(len(s.files))]
		}
		fmt.Fprintln(&script, s.toPod(f))
		fmt.Fprintln(&script, s.pause(40))
	}
	fmt.Fprintln(&script, s.pause(150))
	fmt.Fprintln(&script, s.toDaemon())
	s.kills += strings.Count(s.shell(script.String()), "killed")
}

// pause is a wait of up to ms milliseconds; often there is none.
func (s *storm) pause(ms int) string {
	if s.IntN(3) == 0 {
		return ""
	}
	return fmt.Sprintf("sleep %.3f", s.Float64()*float64(ms)/1000)
}

// toDaemon kills or restarts shoald.
func (s *storm) toDaemon() string {
	const kill = `old=$(pgrep -xo shoald || echo none); kill -9 $old 2>/dev/null && echo killed || true`
	switch s.IntN(8) {
	case 0:
		s.did["systemctl restart shoald"]++
		return "systemctl restart shoald"
	case 1, 2, 3:
		s.did["kill -9 shoald, and again as it starts"]++
		// The next one dies while it takes up what it finds.
		return fmt.Sprintf(`%s
for i in $(seq 500); do new=$(pgrep -xo shoald || echo $old); test "$new" = "$old" || break; done
sleep %.3f; kill -9 $new 2>/dev/null && echo killed || true`, kill, s.Float64()*0.12)
	default:
		s.did["kill -9 shoald"]++
		return kill
	}
}

// toPod edits, moves or removes a pod's file, or kills a process of the pod.
func (s *storm) toPod(f *file) string {
	s.moved[f.name] = true
	path := manifests + f.path
	text := f.yaml
	switch n := s.IntN(12); {
	case f.path == "":
		s.did["create"]++
		s.names++
		f.path, f.touched = fmt.Sprintf("%s-%d.yaml", f.name, s.names), 0
		return fmt.Sprintf("cat > /root/next <<'END'\n%sEND\nmv /root/next %s%s", text(), manifests, f.path)
	case n < 2:
		s.did["edit what is followed in place"]++
		f.note++
		return fmt.Sprintf("cat > %s <<'END'\n%sEND", path, text()) // as a plain editor does, not atomic
	case n < 5:
		s.did["edit what replaces the pod"]++
		f.edit++
		f.touched = 0
		return fmt.Sprintf("cat > /root/next <<'END'\n%sEND\nmv /root/next %s", text(), path)
	case n < 7:
		s.did["delete"]++
		f.path = ""
		return "rm " + path
	case n < 8:
		s.did["rename"]++
		s.names++
		f.path = fmt.Sprintf("%s-%d.yaml", f.name, s.names)
		return "mv " + path + " " + manifests + f.path
	case f.want.Over || len(f.want.Maybe) > 0 || f.touched > 0:
		// The back-off after a second kill would be waited out at the checkpoint, and one that ended is not killed.
		return ""
	}
	f.touched++
	return s.toProcesses(f)
}

// toProcesses kills something below a pod, if it is there just now.
func (s *storm) toProcesses(f *file) string {
	one := func(list string) string { // kills one of them
		return fmt.Sprintf("victim=$(%s | shuf -n1); test -z \"$victim\" || kill -9 $victim 2>/dev/null || true", list)
	}
	dir := fmt.Sprintf("/sys/fs/cgroup/shoal.slice/*/shoal-default-%s-????????.scope", f.name)
	unit := fmt.Sprintf("'shoal-default-%s-????????.scope'", f.name)
	switch s.IntN(5) {
	case 0:
		s.did["kill -9 conmon"]++
		return one(fmt.Sprintf("cat %s/init/cgroup.procs 2>/dev/null | xargs -r ps -o pid=,comm= -p | awk '$2 == \"conmon\" { print $1 }'", dir))
	case 1:
		s.did["kill -9 pause"]++
		return one(fmt.Sprintf("cat %s/init/cgroup.procs 2>/dev/null | xargs -r ps -o pid=,comm= -p | awk '$2 == \"catatonit\" { print $1 }'", dir))
	case 2:
		s.did["systemctl stop SCOPE"]++
		return "systemctl stop --no-block " + unit
	case 3:
		s.did["systemctl kill -s KILL SCOPE"]++
		return "systemctl kill -s KILL " + unit + " 2>/dev/null || true"
	default:
		s.did["kill -9 all of a container"]++
		return one(fmt.Sprintf("cat %s/[!i]*/cgroup.procs 2>/dev/null", dir))
	}
}

// wanted are the pods that have a file.
func (s *storm) wanted() []Pod {
	var pods []Pod
	for _, f := range s.files {
		if f.path != "" {
			pods = append(pods, f.pod())
		}
	}
	return pods
}

// checkpoint waits until the host shows exactly what the files say, and checks that what nobody touched since the last
// checkpoint runs on as it did.
func (s *storm) checkpoint() {
	s.t.Helper()
	begin := time.Now()
	now := Containers(s.settle(s.wanted()), s.wanted())
	s.t.Logf("after %d kills: %d pods with %d containers, nothing else, after %.1f s", s.kills, len(s.wanted()), len(now), time.Since(begin).Seconds())
	for name, was := range s.before {
		pod, _, _ := strings.Cut(strings.TrimPrefix(was.Pod, "default/"), "/")
		if f := s.file(pod); s.moved[pod] || slices.Contains(f.want.Maybe, was.Name) {
			continue
		}
		if is := now[name]; is.Init.PID != was.Init.PID || is.Init.Start != was.Init.Start || is.Conmon.PID != was.Conmon.PID || is.Number != was.Number {
			s.t.Errorf("%s was run %s, process %d; is run %s, process %d", name, was.Number, was.Init.PID, is.Number, is.Init.PID)
		}
	}
	s.before, s.moved = now, make(map[string]bool)
	for _, f := range s.files {
		f.touched = 0
	}
}

func (s *storm) file(name string) *file {
	i := slices.IndexFunc(s.files, func(f *file) bool { return f.name == name })
	return s.files[i]
}

// checkStatus compares what shoald says with what happened: exit codes, restarts, logs.
func (s *storm) checkStatus() {
	said := s.pods()
	for _, f := range s.files {
		p, there := said[f.name]
		if want := f.path != ""; there != want {
			s.t.Errorf("%s: shoald knows it: %v, want %v", f.name, there, want)
		}
		for _, cs := range p.Status.ContainerStatuses {
			if f.fragile && (cs.RestartCount != 0 || cs.State.Running == nil) {
				s.t.Errorf("%s: %+v", f.name, cs)
			}
			if code, ok := map[string]int32{"done": 0, "failed": 7, "at-last": 0}[f.name]; ok &&
				(cs.State.Terminated == nil || cs.State.Terminated.ExitCode != code) {
				s.t.Errorf("%s: %+v, want exit code %d", f.name, cs.State, code)
			}
		}
	}
	for _, c := range []string{"count-a main", "count-b one", "count-b two", "count-c main"} {
		pod, name, _ := strings.Cut(c, " ")
		if n := s.counted(pod, name); n < 10 {
			s.t.Errorf("%s counted to %d only", c, n)
		}
	}
}

// checkIdle sees that a daemon with nothing to do does nothing.
func (s *storm) checkIdle() {
	const seconds = 10
	ticks := s.shell(fmt.Sprintf(`ticks() { sed 's/.*) //' /proc/$(pgrep -xo shoald)/stat | awk '{ print $12 + $13 }'; }
a=$(ticks); sleep %d; b=$(ticks); echo $((b - a))`, seconds))
	var n int
	if _, err := fmt.Sscan(ticks, &n); err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("idle: %d ms of processor time in %d s", 10*n, seconds)
	if n > seconds*100/50 { // 2 %, of ticks of 10 ms
		s.t.Errorf("shoald used %d ms of processor time in %d s", 10*n, seconds)
	}
}
