// Package cpuset decides which containers have processors to themselves.
//
// It is the kubelet's CPU manager (pkg/kubelet/cm/cpumanager, policies "none"
// and "static") as pure functions: from the host's topology, the policy, what is
// held already and a pod to what that pod holds, or the reason why it can't.
// Who carries it out, and in which order, is daemon/agent's business.
//
// Under the static policy a container of a Guaranteed pod that asks for whole
// CPUs holds as many, alone. All others share the rest, the reserved ones
// among it.
package cpuset

import "k8s.io/utils/cpuset"

// Set is a set of logical CPUs, by the kernel's numbers.
type Set = cpuset.CPUSet

// Parse reads a set in the kernel's form, "0-3,8".
func Parse(s string) (Set, error) { return cpuset.Parse(s) }
