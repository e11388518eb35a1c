package cpuset

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// String has a line for each CPU.
func (t Topology) String() string {
	var b strings.Builder
	for _, c := range t {
		fmt.Fprintf(&b, "cpu %d: core %d socket %d numa %d\n", c.ID, c.Core, c.Socket, c.NUMA)
	}
	return b.String()
}

// String has a line for each container that holds CPUs, sorted.
func (h Held) String() string {
	var b strings.Builder
	for _, pod := range slices.Sorted(maps.Keys(h)) {
		for _, name := range slices.Sorted(maps.Keys(h[pod])) {
			fmt.Fprintf(&b, "%s/%s %s\n", pod, name, h[pod][name])
		}
	}
	return b.String()
}
