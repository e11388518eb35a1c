package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// Snapshot is what a host showed.
type Snapshot struct {
	Processes  map[int]Process
	Mounts     []string // mount points, one each time something is mounted there
	Cgroups    []string // directories below shoal.slice, from the root of the hierarchy
	Scopes     []string // units shoal-*.scope
	Links      []string
	Neighbours []string            // permanent ones on the pods' bridge
	HostPorts  []string            // elements of the packet filter: "tcp 30080"
	Leases     map[string][]string // addresses by the UID of the pod that has them
	Files      []string            // below /run/shoal, /var/lib/shoal/pods and /var/log/pods
}

// Process is one process of the host.
type Process struct {
	PID, Parent int
	Start       uint64 // clock ticks since boot: proc_pid_stat(5)
	Dead        bool   // waits to be reaped
	Args        []string
	Env         []string
	Cgroup      string
}

func (p Process) String() string {
	return fmt.Sprintf("process %d (%.200s)", p.PID, strings.Join(p.Args, " "))
}

// collect prints everything in sections that begin with a line "\036NAME". head names each file that it prints.
const collect = `section() { printf '\n\036%s\n' "$1"; }
section processes; head -v -c 16384 /proc/[0-9]*/stat /proc/[0-9]*/cgroup /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null || true
section mounts; cat /proc/self/mountinfo
section cgroups; find /sys/fs/cgroup/shoal.slice -type d -printf '/shoal.slice/%P\n' 2>/dev/null || true
section scopes; systemctl list-units --all --plain --no-legend 'shoal-*.scope'
section links; ip -brief link
section neighbours; ip neigh show dev shoal0 nud permanent 2>/dev/null || true
section nft; nft -j list table inet shoal 2>/dev/null || echo '{}'
section leases; cat /run/shoal/net/leases.json 2>/dev/null || echo '{}'
section files; find /run/shoal /var/lib/shoal/pods /var/log/pods -xdev -maxdepth 6 -printf '%p\n' 2>/dev/null || true
`

// Look takes a snapshot of a host. It is not taken in one instant: on a host where things change, look again.
func Look(ctx context.Context, h *bed.Host) (Snapshot, error) {
	text, err := h.Shell(ctx, collect)
	if err != nil {
		return Snapshot{}, fmt.Errorf("look at %s: %w", h.Name(), err)
	}
	return parse(text)
}

func parse(text string) (Snapshot, error) {
	sections := make(map[string]string)
	for _, part := range strings.Split(text, "\n\x1e") {
		name, body, _ := strings.Cut(part, "\n")
		sections[strings.TrimPrefix(name, "\x1e")] = body
	}
	s := Snapshot{
		Processes: processes(sections["processes"]),
		Scopes:    fields(sections["scopes"], 0), Links: fields(sections["links"], 0),
		Neighbours: fields(sections["neighbours"], 0), Mounts: fields(sections["mounts"], 4),
		Cgroups: fields(sections["cgroups"], 0), Files: fields(sections["files"], 0),
	}
	if len(s.Processes) == 0 || len(s.Mounts) == 0 || len(s.Links) == 0 {
		return s, fmt.Errorf("not a snapshot: %.200q", text)
	}
	for i, l := range s.Links {
		s.Links[i], _, _ = strings.Cut(l, "@")
	}
	var leases struct {
		Pods map[string]struct{ Addrs []string }
	}
	if err := json.Unmarshal([]byte(sections["leases"]), &leases); err != nil {
		return s, fmt.Errorf("leases: %w", err)
	}
	s.Leases = make(map[string][]string)
	for uid, l := range leases.Pods {
		s.Leases[uid] = l.Addrs
	}
	var err error
	s.HostPorts, err = hostPorts(sections["nft"])
	return s, err
}

// fields are the nth words of the lines.
func fields(text string, n int) []string {
	var list []string
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > n {
			list = append(list, f[n])
		}
	}
	return list
}

var procFile = regexp.MustCompile(`(?m)^==> /proc/(\d+)/(\w+) <==\n`)

func processes(text string) map[int]Process {
	all := make(map[int]Process)
	heads := procFile.FindAllStringSubmatchIndex(text, -1)
	for i, at := range heads {
		end := len(text)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		pid, _ := strconv.Atoi(text[at[2]:at[3]])
		p, body := all[pid], strings.TrimRight(text[at[1]:end], "\n")
		p.PID = pid
		switch text[at[4]:at[5]] {
		case "stat":
			// The command, in parentheses, may hold spaces.
			if f := strings.Fields(body[strings.LastIndexByte(body, ')')+1:]); len(f) > 19 {
				p.Dead = f[0] == "Z" || f[0] == "X"
				p.Parent, _ = strconv.Atoi(f[1])
				p.Start, _ = strconv.ParseUint(f[19], 10, 64)
			}
		case "cgroup":
			for line := range strings.Lines(body) {
				if path, ok := strings.CutPrefix(line, "0::"); ok {
					p.Cgroup = strings.TrimSpace(path)
				}
			}
		case "cmdline":
			p.Args = zeroTerminated(body)
		case "environ":
			p.Env = zeroTerminated(body)
		}
		all[pid] = p
	}
	for pid, p := range all {
		if p.Start == 0 || p.Dead {
			delete(all, pid) // it ended while it was looked at, or before
		}
	}
	return all
}

func zeroTerminated(s string) []string {
	if s = strings.TrimSuffix(s, "\x00"); s == "" {
		return nil
	}
	return strings.Split(s, "\x00")
}

// protocols are names that nft prints as numbers here (protocols(5)).
var protocols = map[string]string{"6": "tcp", "17": "udp", "132": "sctp"}

// hostPorts are the elements of the maps that host ports are translated with: [proto, port], or [address, proto, port].
func hostPorts(text string) ([]string, error) {
	var rules struct {
		Nftables []struct {
			Map *struct {
				Name string
				Elem [][]any
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &rules); err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	var ports []string
	for _, r := range rules.Nftables {
		if r.Map == nil {
			continue
		}
		for _, e := range r.Map.Elem {
			key, ok := e[0].(map[string]any)
			concat, isList := key["concat"].([]any)
			if !ok || !isList {
				return nil, fmt.Errorf("nft: element %v of %s is no concatenation", e, r.Map.Name)
			}
			protocol := fmt.Sprint(concat[len(concat)-2])
			if name, ok := protocols[protocol]; ok {
				protocol = name
			}
			ports = append(ports, fmt.Sprintf("%s %v", protocol, concat[len(concat)-1]))
		}
	}
	slices.Sort(ports)
	return ports, nil
}
