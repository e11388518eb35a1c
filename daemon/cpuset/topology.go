package cpuset

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"k8s.io/utils/cpuset"
)

// CPU is where one logical CPU lies.
type CPU struct {
	ID     int
	Core   int // the lowest online CPU of its physical core
	Socket int // physical_package_id; 0 where the kernel knows none
	NUMA   int // memory node; 0 where the kernel has none
}

// Topology is a host's online CPUs, by ID.
type Topology []CPU

// ReadTopology reads the online CPUs from sys, a tree like /sys
// (Documentation/admin-guide/cputopology.rst of the kernel). What a kernel does
// not tell (virtual machines, some boards) counts as one socket, one memory
// node, and a core for each CPU.
func ReadTopology(sys fs.FS) (Topology, error) {
	const dir = "devices/system/cpu"
	online, err := readSet(sys, dir+"/online")
	if err != nil {
		return nil, fmt.Errorf("find the host's CPUs: %w", err)
	}
	if online.IsEmpty() {
		return nil, errors.New("find the host's CPUs: none is online")
	}
	nodes, err := readNodes(sys)
	if err != nil {
		return nil, fmt.Errorf("find the host's memory nodes: %w", err)
	}
	var t Topology
	for _, id := range online.List() {
		at := path.Join(dir, "cpu"+strconv.Itoa(id), "topology")
		siblings, err := readSet(sys, at+"/thread_siblings_list")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("find the threads of CPU %d: %w", id, err)
		}
		socket, err := readInt(sys, at+"/physical_package_id")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("find the socket of CPU %d: %w", id, err)
		}
		cpu := CPU{ID: id, Core: id, Socket: max(socket, 0), NUMA: nodes[id]} // -1: not known
		if threads := siblings.Intersection(online).List(); len(threads) > 0 {
			cpu.Core = threads[0]
		}
		t = append(t, cpu)
	}
	return t, nil
}

// readNodes finds the memory node of each CPU. A kernel without NUMA has no
// directory of them.
func readNodes(sys fs.FS) (map[int]int, error) {
	const dir = "devices/system/node"
	of := make(map[int]int)
	entries, err := fs.ReadDir(sys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return of, nil
	}
	for _, e := range entries {
		number, is := strings.CutPrefix(e.Name(), "node")
		node, notNumber := strconv.Atoi(number)
		if !is || notNumber != nil {
			continue
		}
		cpus, err := readSet(sys, path.Join(dir, e.Name(), "cpulist"))
		if err != nil {
			return nil, err
		}
		for _, id := range cpus.UnsortedList() {
			of[id] = node
		}
	}
	return of, err
}

func readSet(sys fs.FS, file string) (Set, error) {
	text, err := fs.ReadFile(sys, file)
	if err != nil {
		return Set{}, err
	}
	set, err := cpuset.Parse(strings.TrimSpace(string(text)))
	if err != nil {
		return Set{}, fmt.Errorf("%s: %w", file, err)
	}
	return set, nil
}

func readInt(sys fs.FS, file string) (int, error) {
	text, err := fs.ReadFile(sys, file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return n, nil
}

// CPUs are all of them.
func (t Topology) CPUs() Set { return t.where(func(CPU) bool { return true }) }

func (t Topology) where(is func(CPU) bool) Set {
	var ids []int
	for _, c := range t {
		if is(c) {
			ids = append(ids, c.ID)
		}
	}
	return cpuset.New(ids...)
}

// ThreadsPerCore is how many CPUs the host's largest core has: 2 with SMT,
// mostly. (The kubelet divides CPUs by cores, which is the same where all
// cores are.)
func (t Topology) ThreadsPerCore() int {
	most := 0
	for _, threads := range t.by(core) {
		most = max(most, threads.Size())
	}
	return most
}

// withSiblings is set with all other threads of its cores.
func (t Topology) withSiblings(set Set) Set {
	cores := make(map[int]bool)
	for _, c := range t {
		if set.Contains(c.ID) {
			cores[c.Core] = true
		}
	}
	return t.where(func(c CPU) bool { return cores[c.Core] })
}

// nearby is the CPUs in the memory nodes and sockets that set touches.
func (t Topology) nearby(set Set) Set {
	type place struct{ numa, socket int }
	touched := make(map[place]bool)
	for _, c := range t {
		if set.Contains(c.ID) {
			touched[place{c.NUMA, c.Socket}] = true
		}
	}
	return t.where(func(c CPU) bool { return touched[place{c.NUMA, c.Socket}] })
}

// The parts of a host that CPUs are grouped by.
func core(c CPU) int   { return c.Core }
func socket(c CPU) int { return c.Socket }
func numa(c CPU) int   { return c.NUMA }

// by groups the CPUs by a part of the host.
func (t Topology) by(part func(CPU) int) map[int]Set {
	ids := make(map[int][]int)
	for _, c := range t {
		ids[part(c)] = append(ids[part(c)], c.ID)
	}
	sets := make(map[int]Set, len(ids))
	for p, list := range ids {
		sets[p] = cpuset.New(list...)
	}
	return sets
}

// only is the topology of the CPUs in set.
func (t Topology) only(set Set) Topology {
	return slices.DeleteFunc(slices.Clone(t), func(c CPU) bool { return !set.Contains(c.ID) })
}
