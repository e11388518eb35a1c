package nodelife

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// String is the verdict in one line: the Ready condition, then the taints.
func (v Verdict) String() string {
	var parts []string
	for _, c := range v.Conditions {
		if c.Type == v1.NodeReady {
			parts = append(parts, fmt.Sprintf("Ready=%s (%s)", c.Status, c.Reason))
		}
	}
	for _, t := range v.Taints {
		parts = append(parts, strings.TrimPrefix(t.Key, "node.kubernetes.io/")+":"+string(t.Effect))
	}
	return strings.Join(parts, " ")
}

// String is the outcome, one node a line, sorted.
func (o Outcome) String() string {
	var b strings.Builder
	if o.Frozen != "" {
		fmt.Fprintf(&b, "evicts nobody: %s\n", o.Frozen)
	}
	for _, zone := range slices.Sorted(maps.Keys(o.Zones)) {
		if s := o.Zones[zone]; s != Normal {
			fmt.Fprintf(&b, "zone %q: %s\n", strings.ReplaceAll(zone, "\x00", ""), s)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Verdicts)) {
		fmt.Fprintf(&b, "%s: %s\n", name, o.Verdicts[name])
	}
	return b.String()
}
