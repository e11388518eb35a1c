package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/cpuset"
	"github.com/shoal-project/shoal/daemon/scope"
)

// annotationCPUs on a node says who holds which of its processors.
const annotationCPUs = "shoal.io/cpus"

// cpuNode is this host's processors under the configured policy.
func (d *Daemon) cpuNode(c config.CPU) (cpuset.Node, error) {
	topology, err := cpuset.ReadTopology(os.DirFS("/sys"))
	if err != nil {
		return cpuset.Node{}, err
	}
	reserved, err := cpuset.Parse(c.Reserved)
	if err != nil {
		return cpuset.Node{}, fmt.Errorf("cpu.reserved = %q: %w", c.Reserved, err) // validated before
	}
	p := cpuset.Policy{
		Static: c.Policy == config.CPUStatic, Reserved: reserved, FullCoresOnly: c.FullPCPUsOnly, Strict: c.StrictReservation,
	}
	node, err := cpuset.NewNode(topology, p)
	if err != nil {
		return node, fmt.Errorf("cpu.reserved = %q: %w", c.Reserved, err)
	}
	return node, nil
}

// openCPUs reads the host's processors. cgroup v1 can't take some from a pod's
// children before the pod: there is no static policy with it.
func (h *host) openCPUs() error {
	c := h.d.Config.CPU
	if c.Policy == config.CPUStatic && h.scopes.CgroupV1() {
		h.d.Log.Warn("cpu.policy = \"static\" needs cgroup v2: \"none\" is in force")
		c.Policy = config.CPUNone
	}
	var err error
	h.cpus, err = h.d.cpuNode(c)
	h.cpuConfig = c
	h.reserved.Store(int64(h.cpus.Policy.Reserved.Size()))
	return err
}

// setCPUs puts another policy in force, without a restart of anything.
func (h *host) setCPUs(c config.CPU) error {
	before, was := h.cpus, h.cpuConfig
	h.d.Config.CPU = c
	if err := h.openCPUs(); err != nil {
		h.cpus, h.cpuConfig = before, was
		h.reserved.Store(int64(before.Policy.Reserved.Size()))
		return err
	}
	h.d.agent.SetCPUs(h.cpus)
	return nil
}

// checkCPUs has pods follow processors that come and go.
func (h *host) checkCPUs() {
	node, err := h.d.cpuNode(h.cpuConfig)
	if err != nil {
		h.d.Log.Error("can't read the host's processors: pods stay where they are", "err", err)
		return
	}
	if !slices.Equal(node.Topology, h.cpus.Topology) {
		h.cpus = node
		h.d.agent.SetCPUs(node)
	}
}

// allocatable is what pods may request together: the host's capacity without
// the processors that are reserved (the kubelet's reservedSystemCPUs). Workers
// ask too.
func (h *host) allocatable() v1.ResourceList {
	reserved := h.reserved.Load()
	if reserved == 0 {
		return h.capacity
	}
	list := h.capacity.DeepCopy()
	cpu := list[v1.ResourceCPU]
	cpu.Sub(*resource.NewQuantity(reserved, resource.DecimalSI))
	list[v1.ResourceCPU] = cpu
	return list
}

// cpusChanged has the slices follow who holds which processors.
func (h *host) cpusChanged() {
	select {
	case h.dirtyCPUs <- struct{}{}:
	default:
	}
}

// pooled is a mark that pods' slices were given processors at some time since
// the host was booted, and so must be given all of them when the policy ends.
const pooled = "run/shoal/cpus-pooled"

// setSlices gives the slices of the QoS classes their weights and processors.
func (h *host) setSlices(ctx context.Context, pods []*v1.Pod) error {
	limits := h.limits
	pool, static := h.d.agent.BeginPool()
	mark := h.d.path(pooled)
	if static {
		if err := os.WriteFile(mark, nil, 0o600); err != nil {
			return err
		}
	}
	if _, err := os.Stat(mark); err == nil {
		limits.SharedCPUs = pool
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := h.scopes.Slices(ctx, scope.SliceResources(pods, isExclusive, limits)); err != nil {
		return err
	}
	h.d.agent.EndPool(pool)
	return nil
}

// weighSlices gives each QoS class the weight of its pods and the processors
// that nobody holds, until ctx ends.
func (h *host) weighSlices(ctx context.Context) {
	said := ""
	for {
		var pods []*v1.Pod
		select {
		case pods = <-h.dirtyQoS:
		case <-h.dirtyCPUs:
			pods = h.d.pods()
		case <-ctx.Done():
			return
		}
		if err := h.setSlices(ctx, pods); err != nil && ctx.Err() == nil {
			h.d.Log.Error("can't set the slices of the QoS classes", "err", err)
		}
		if now := h.d.agent.CPUs(); now != said {
			said = now
			if err := h.d.do(ctx, h.d.publishNode); err != nil {
				return
			}
		}
	}
}

// cpuKeys says whether settings of the CPU policy are among those that changed.
func cpuKeys(changed []string) bool {
	return slices.ContainsFunc(changed, func(key string) bool { return strings.HasPrefix(key, "cpu.") })
}
