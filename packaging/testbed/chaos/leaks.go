package chaos

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Pod is what a host must show of one pod.
type Pod struct {
	Namespace, Name string
	Running         []string // containers that run
	Maybe           []string // containers that run or wait for their next start
	Over            bool     // it ended, Succeeded or Failed: its logs and its directory stay, nothing else
	HostNetwork     bool
	HostPorts       []string // "tcp 30080"
	Env             string   // what its containers were started with, among others; "": anything
}

func (p Pod) String() string { return p.Namespace + "/" + p.Name }

// Container is one run of a container that conmon supervises.
type Container struct {
	Pod    string // NAMESPACE/NAME
	Name   string
	Number string // of the run, which is the restart count
	Env    string // what it must have been started with
	Conmon Process
	Init   Process // zero: it has ended and conmon is about to
}

// Leaks compares what a host shows with the pods that should run on it. It returns what is there and should not be, and
// what is not and should be, sorted; nothing when all is well and at rest.
func Leaks(s Snapshot, pods []Pod) []string {
	c := newCheck(s, pods)
	c.logs()
	c.findContainers()
	c.processes()
	c.directories()
	c.units()
	c.mounts()
	c.network()
	c.missing()
	slices.Sort(c.found)
	return slices.Compact(c.found)
}

// Containers are the containers that run, by POD/NAME.
func Containers(s Snapshot, pods []Pod) map[string]Container {
	c := newCheck(s, pods)
	c.logs()
	c.findContainers()
	all := make(map[string]Container)
	for _, found := range c.live {
		all[found.Pod+"/"+found.Name] = found
	}
	return all
}

type check struct {
	Snapshot
	wanted map[string]Pod       // by NAMESPACE_NAME
	pods   map[string]Pod       // by UID
	scopes map[string]string    // UID by the scope's name, of pods that are not over
	live   map[string]Container // by container id: NAME-NUMBER-UID
	byPID  []Process
	found  []string
}

func newCheck(s Snapshot, pods []Pod) *check {
	c := &check{
		Snapshot: s, wanted: make(map[string]Pod), pods: make(map[string]Pod),
		scopes: make(map[string]string), live: make(map[string]Container),
	}
	for _, pid := range slices.Sorted(maps.Keys(s.Processes)) {
		c.byPID = append(c.byPID, s.Processes[pid])
	}
	for _, p := range pods {
		c.wanted[p.Namespace+"_"+p.Name] = p
	}
	return c
}

func (c *check) say(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

// below are the names of the entries in dir, and of those below when depth is more than 1.
func (c *check) below(dir string, depth int) []string {
	var names []string
	for _, f := range c.Files {
		if rest, ok := strings.CutPrefix(f, dir+"/"); ok && strings.Count(rest, "/") == depth-1 {
			names = append(names, rest)
		}
	}
	return names
}

// logs finds the pods' UIDs: each pod that ever ran has one directory of logs, NAMESPACE_NAME_UID.
func (c *check) logs() {
	seen := make(map[string]bool)
	for _, dir := range c.below("/var/log/pods", 1) {
		name, uid := dir[:strings.LastIndexByte(dir, '_')+1], dir[strings.LastIndexByte(dir, '_')+1:]
		p, ok := c.wanted[strings.TrimSuffix(name, "_")]
		if !ok {
			c.say("logs %s: no such pod", dir)
			continue
		}
		if seen[name] {
			c.say("pod %s: more than one directory of logs", p)
		}
		seen[name] = true
		c.pods[uid] = p
		if !p.Over {
			c.scopes[fmt.Sprintf("shoal-%s-%s-%s.scope", p.Namespace, p.Name, uid[:min(8, len(uid))])] = uid
		}
	}
	for name, p := range c.wanted {
		if !seen[name+"_"] {
			c.say("pod %s: it never ran", p)
		}
	}
}

var containerID = regexp.MustCompile(`^([a-z0-9-]+?)-(\d+)-([0-9a-f]{8}-[0-9a-f-]{27})$`)

// findContainers takes every conmon, and what it supervises.
func (c *check) findContainers() {
	names := make(map[string]bool)
	for _, p := range c.byPID {
		if len(p.Args) == 0 || path.Base(p.Args[0]) != "conmon" {
			continue
		}
		m := containerID.FindStringSubmatch(after(p.Args, "--cid"))
		if m == nil {
			c.say("%v: supervises no container of a pod", p)
			continue
		}
		pod, ok := c.pods[m[3]]
		switch {
		case !ok:
			c.say("%v: of no pod", p)
			continue
		case pod.Over:
			c.say("%v: of pod %s, which is over", p, pod)
		case !slices.Contains(pod.Running, m[1]) && !slices.Contains(pod.Maybe, m[1]):
			c.say("%v: of a container of pod %s that has ended", p, pod)
		case names[m[3]+m[1]]:
			c.say("%v: container %s of pod %s runs twice", p, m[1], pod)
		}
		names[m[3]+m[1]] = true
		found := Container{Pod: pod.String(), Name: m[1], Number: m[2], Env: pod.Env, Conmon: p}
		for _, child := range c.byPID {
			if child.Parent == p.PID && path.Base(child.Cgroup) == m[1] {
				found.Init = child
			}
		}
		c.live[m[0]] = found
	}
}

func after(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// processes looks at everything that runs in a pod's cgroup, or that belongs there.
func (c *check) processes() {
	daemons := 0
	pauses := make(map[string]int)
	for _, p := range c.byPID {
		program := ""
		if len(p.Args) > 0 {
			program = path.Base(p.Args[0])
		}
		scope, leaf := scopeOf(p.Cgroup)
		uid, ours := c.scopes[scope]
		switch {
		case program == "shoald" && p.Cgroup == "/system.slice/shoald.service":
			daemons++
		case program == "shoald":
			c.say("%v: shoald outside of its service", p)
		case program == "crun" && scope == "" && slices.Contains(p.Args, "--root=/run/shoal/crun"):
			c.say("%v: left over", p)
		case program == "catatonit" && len(p.Env) == 1 && strings.HasPrefix(p.Env[0], "SHOAL_SANDBOX="):
			of := path.Base(p.Env[0])
			pauses[of]++
			if pod, ok := c.pods[of]; !ok || pod.Over || pauses[of] > 1 {
				c.say("%v: pause process of no pod (%s)", p, of)
			} else if uid != of || leaf != "init" {
				c.say("%v: pause process of pod %s in cgroup %q", p, pod, p.Cgroup)
			}
		case program == "conmon" && (!ours || leaf != "init"):
			c.say("%v: conmon in cgroup %q", p, p.Cgroup)
		case scope != "" && !ours:
			c.say("%v: in %s, which is no pod's", p, scope)
		case ours && program != "conmon" && !c.runs(uid, leaf):
			c.say("%v: in cgroup %s, of no container that runs", p, p.Cgroup)
		}
	}
	if daemons != 1 {
		c.say("shoald runs %d times", daemons)
	}
	for uid, p := range c.pods {
		if !p.Over && pauses[uid] == 0 {
			c.say("pod %s: no pause process", p)
		}
	}
}

func scopeOf(cgroup string) (scope, leaf string) {
	for part := range strings.SplitSeq(cgroup, "/") {
		if scope != "" && leaf == "" {
			leaf = part
		}
		if strings.HasPrefix(part, "shoal-") && strings.HasSuffix(part, ".scope") {
			scope = part
		}
	}
	return scope, leaf
}

// runs says whether a pod's container runs.
func (c *check) runs(uid, name string) bool {
	for id := range c.live {
		if m := containerID.FindStringSubmatch(id); m[1] == name && m[3] == uid {
			return true
		}
	}
	return false
}

func (c *check) directories() {
	for _, root := range []string{"/run/shoal/pods", "/var/lib/shoal/pods"} {
		for _, uid := range c.below(root, 1) {
			if _, ok := c.pods[uid]; !ok {
				c.say("directory %s/%s: of no pod", root, uid)
			}
		}
		for _, dir := range c.below(root, 4) {
			part := strings.Split(dir, "/")
			if part[1] != "containers" || strings.HasSuffix(part[3], ".termination") {
				continue
			}
			if id := part[2] + "-" + part[3] + "-" + part[0]; c.live[id].Name == "" {
				c.say("directory %s/%s: of a container that does not run", root, dir)
			}
		}
	}
	for _, dir := range []string{"/run/shoal/crun", "/run/shoal/exits"} {
		for _, id := range c.below(dir, 1) {
			if c.live[id].Name == "" {
				c.say("%s/%s: of a container that does not run", dir, id)
			}
		}
	}
}

// units looks at systemd's scopes and at cgroups.
func (c *check) units() {
	for _, name := range c.Scopes {
		if _, ok := c.scopes[name]; !ok {
			c.say("unit %s: of no pod", name)
		}
	}
	for _, dir := range c.Cgroups {
		scope, leaf := scopeOf(dir)
		uid, ours := c.scopes[scope]
		switch {
		case scope == "":
		case !ours:
			c.say("cgroup %s: of no pod", dir)
		case leaf != "" && leaf != "init" && !c.runs(uid, leaf):
			c.say("cgroup %s: of a container that does not run", dir)
		}
	}
}

func (c *check) mounts() {
	seen := make(map[string]bool)
	for _, m := range c.Mounts {
		rest, ok := strings.CutPrefix(m, "/run/shoal/pods/")
		if !ok {
			if rest, ok = strings.CutPrefix(m, "/var/lib/shoal/pods/"); !ok {
				continue
			}
		}
		part := strings.Split(rest, "/")
		p, known := c.pods[part[0]]
		switch {
		case !known || p.Over:
			c.say("mount %s: of no pod that runs", m)
		case seen[m]:
			c.say("mount %s: more than once", m)
		case len(part) > 3 && part[1] == "containers" && c.live[part[2]+"-"+part[3]+"-"+part[0]].Name == "":
			c.say("mount %s: of a container that does not run", m)
		}
		seen[m] = true
	}
}

var vethName = regexp.MustCompile(`^shoal[0-9a-f]{10}$`)

func (c *check) network() {
	veths, addrs, ports := make(map[string]bool), make(map[string]bool), []string{}
	for uid, p := range c.pods {
		if p.Over {
			continue
		}
		ports = append(ports, p.HostPorts...)
		if p.HostNetwork {
			continue
		}
		sum := sha256.Sum256([]byte(uid))
		veth := "shoal" + hex.EncodeToString(sum[:5])
		veths[veth] = true
		if !slices.Contains(c.Links, veth) {
			c.say("pod %s: no link %s", p, veth)
		}
		if len(c.Leases[uid]) == 0 {
			c.say("pod %s: no address", p)
		}
		for _, a := range c.Leases[uid] {
			addrs[a] = true
			if !slices.Contains(c.Neighbours, a) {
				c.say("pod %s: no neighbour entry for %s", p, a)
			}
		}
	}
	for _, l := range c.Links {
		if vethName.MatchString(l) && !veths[l] {
			c.say("link %s: of no pod", l)
		}
	}
	for uid := range c.Leases {
		if p, ok := c.pods[uid]; !ok || p.Over || p.HostNetwork {
			c.say("addresses %v: of no pod (%s)", c.Leases[uid], uid)
		}
	}
	for _, a := range c.Neighbours {
		if !addrs[a] {
			c.say("neighbour %s: of no pod", a)
		}
	}
	slices.Sort(ports)
	if !slices.Equal(ports, c.HostPorts) {
		c.say("host ports are %q, want %q", c.HostPorts, ports)
	}
}

// missing looks for what should be there.
func (c *check) missing() {
	for unit, uid := range c.scopes {
		if !slices.Contains(c.Scopes, unit) {
			c.say("pod %s: no unit %s", c.pods[uid], unit)
		}
	}
	for uid, p := range c.pods {
		if p.Over {
			continue
		}
		for _, name := range p.Running {
			if !c.runs(uid, name) {
				c.say("pod %s: container %s does not run", p, name)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.live)) {
		switch l := c.live[id]; {
		case l.Init.PID == 0:
			c.say("pod %s: container %s has no process", l.Pod, l.Name)
		case l.Env != "" && !slices.Contains(l.Init.Env, l.Env):
			c.say("pod %s: container %s runs without %s", l.Pod, l.Name, l.Env)
		}
	}
}
