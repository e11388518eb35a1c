package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// strangerUID is the UID of a pod that nobody declared.
const strangerUID = "12345678-1234-8123-8123-123456789abc"

// A plant is something left behind, as a shell script makes it. In scripts, $stranger is strangerUID, $uid the UID of a
// pod that is declared and $scope its cgroup; keep PID has the process end with the host.
type plant struct {
	name   string
	script string
	want   string // in what the checker says
	stays  bool   // shoald can't know that it is its own: it is not swept
}

const plantTools = `stranger=` + strangerUID + `
uid=$(ls /var/log/pods | sed -n 's/^default_planted_//p')
scope=$(echo /sys/fs/cgroup/shoal.slice/*/shoal-default-planted-????????.scope)
quiet() { setsid "$@" </dev/null >/dev/null 2>&1 & }
fake() { name=$1; shift; quiet bash -c "exec -a $name bash -c 'sleep infinity; :' \"\$@\"" sh "$name" "$@"; }
`

var plants = []plant{
	{name: "pause", want: "pause process of no pod (" + strangerUID,
		script: "quiet env -i SHOAL_SANDBOX=/run/shoal/pods/$stranger catatonit -P"},
	{name: "second pause of a pod", want: "pause process of no pod (UID)", stays: true,
		script: "quiet env -i SHOAL_SANDBOX=/run/shoal/pods/$uid catatonit -P"},
	{name: "conmon", want: ": of no pod", stays: true, script: "fake conmon --cid main-0-$stranger"},
	{name: "conmon of a container that has one", want: "runs twice", stays: true, script: "fake conmon --cid main-0-$uid"},
	{name: "conmon outside of its scope", want: ": conmon in cgroup", stays: true, script: "fake conmon --cid main-1-$uid"},
	{name: "crun", want: ": left over", stays: true, script: "fake crun --root=/run/shoal/crun start x"},
	{name: "second shoald", want: "shoald outside of its service", stays: true, script: "fake shoald"},
	{name: "process in a pod's cgroup", want: "of no container that runs", stays: true,
		script: "mkdir $scope/ghost; quiet sleep infinity; echo $! > $scope/ghost/cgroup.procs"},
	{name: "cgroup in a pod's", want: "ghost2: of a container that does not run", stays: true, script: "mkdir $scope/ghost2"},
	{name: "cgroup of a pod", want: "cgroup /shoal.slice/shoal-default-ghost-12345678.scope: of no pod", stays: true,
		script: "mkdir /sys/fs/cgroup/shoal.slice/shoal-default-ghost-12345678.scope"},
	{name: "scope", want: "unit shoal-default-gone-12345678.scope: of no pod",
		script: "quiet systemd-run --scope --slice=shoal.slice --unit=shoal-default-gone-12345678 sleep infinity"},
	{name: "veth", want: "link shoal0123456789: of no pod", script: "ip link add shoal0123456789 type veth peer name planted master shoal0"},
	{name: "host port", want: `"tcp 39999"`, script: "nft add element inet shoal any4 '{ tcp . 39999 : 10.244.0.99 . 80 }'"},
	{name: "neighbour", want: "neighbour 10.244.0.98: of no pod",
		script: "ip neigh add 10.244.0.98 lladdr 0a:58:0a:f4:00:62 dev shoal0 nud permanent"},
	{name: "address", want: "addresses [10.244.0.97]: of no pod",
		script: `sed -i "s/\"Pods\":{/&\"$stranger\":{\"UID\":\"$stranger\",\"Addrs\":[\"10.244.0.97\"],\"Ports\":null},/" /run/shoal/net/leases.json`},
	{name: "directory below /run", want: "directory /run/shoal/pods/" + strangerUID, script: "mkdir -p /run/shoal/pods/$stranger"},
	{name: "directory below /var/lib", want: "directory /var/lib/shoal/pods/" + strangerUID, script: "mkdir -p /var/lib/shoal/pods/$stranger"},
	{name: "mount", want: "volumes/v: of no pod",
		script: "mkdir -p /var/lib/shoal/pods/$stranger/volumes/v; mount -t tmpfs planted /var/lib/shoal/pods/$stranger/volumes/v"},
	{name: "shm", want: "shm: of no pod", script: "mkdir -p /run/shoal/pods/$stranger/shm; mount -t tmpfs planted /run/shoal/pods/$stranger/shm"},
	{name: "root of a container that ended", want: "containers/main/99/merged: of a container",
		script: "d=/var/lib/shoal/pods/$uid/containers/main/99/merged; mkdir -p $d; mount -t tmpfs planted $d"},
	{name: "bundle of a container that ended", want: "directory /run/shoal/pods/UID/containers/main/98",
		script: "mkdir /run/shoal/pods/$uid/containers/main/98"},
	{name: "logs", want: "logs default_gone_" + strangerUID, script: "mkdir /var/log/pods/default_gone_$stranger"},
	{name: "state of crun", want: "/run/shoal/crun/main-0-" + strangerUID, stays: true, script: "mkdir /run/shoal/crun/main-0-$stranger"},
	{name: "exit code", want: "/run/shoal/exits/main-0-" + strangerUID, stays: true, script: "echo 0 > /run/shoal/exits/main-0-$stranger"},
}

// Each kind of leak is planted on a host whose shoald is stopped, and seen. What shoald can know for its own it removes
// when it starts.
func TestPlantedLeaksAreCaught(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	planted := &file{kind: kind{name: "planted", want: running("main"), spec: containers(container("main", wait, ""))}, path: "planted.yaml"}
	h.write(planted)
	pods := []Pod{planted.pod()}
	h.settle(pods)
	h.shell("systemctl stop shoald")
	uid := h.shell(plantTools + "echo $uid")
	without := func(s Snapshot) []string {
		return slices.DeleteFunc(Leaks(s, pods), func(l string) bool { return l == "shoald runs 0 times" })
	}
	if left := without(h.look()); len(left) > 0 {
		t.Fatalf("before anything is planted: %q", left)
	}
	t.Run("container of an earlier file", func(t *testing.T) {
		later := pods[0]
		later.Env = "EDIT=1"
		if got := Leaks(h.look(), []Pod{later}); !slices.Contains(got, "pod default/planted: container main runs without EDIT=1") {
			t.Errorf("got %q", got)
		}
	})
	for _, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			h := host{h.Host, t}
			before := Leaks(h.look(), pods)
			h.shell(plantTools + p.script)
			want := strings.ReplaceAll(p.want, "UID", uid)
			h.until(10*time.Second, func() string {
				now := Leaks(h.look(), pods)
				if slices.ContainsFunc(now, func(l string) bool { return strings.Contains(l, want) && !slices.Contains(before, l) }) {
					return ""
				}
				return "not caught: " + strings.Join(now, "\n")
			})
		})
	}
	t.Run("pod that does not run", func(t *testing.T) {
		absent := append(slices.Clone(pods), Pod{Namespace: "default", Name: "absent"})
		if got := Leaks(h.look(), absent); !slices.Contains(got, "pod default/absent: it never ran") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("container that does not run", func(t *testing.T) {
		more := pods[0]
		more.Running = []string{"main", "other"}
		if got := Leaks(h.look(), []Pod{more}); !slices.Contains(got, "pod default/planted: container other does not run") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("swept", func(t *testing.T) {
		h := host{h.Host, t}
		h.shell("systemctl start shoald")
		h.until(time.Minute, func() string {
			var left []string
			for _, l := range Leaks(h.look(), pods) {
				for _, p := range plants {
					if !p.stays && strings.Contains(l, strings.ReplaceAll(p.want, "UID", uid)) {
						left = append(left, p.name+": "+l)
					}
				}
			}
			return strings.Join(left, "\n")
		})
	})
}
