package agent

import (
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/stats"
)

// Measured are the pods that have a sandbox, and where to measure what they and
// their running containers use. Sorted by namespace and name.
func (a *Agent) Measured() []stats.Pod {
	a.mu.Lock()
	workers := make([]*worker, 0, len(a.workers))
	for _, w := range a.workers {
		workers = append(workers, w)
	}
	a.mu.Unlock()
	var pods []stats.Pod
	for _, w := range workers {
		w.mu.Lock()
		if p := w.measured; p != nil {
			one := *p
			for _, c := range w.running {
				c.Cgroup = w.containerCgroup(one.Cgroup, c.Name)
				one.Containers = append(one.Containers, c)
			}
			slices.SortFunc(one.Containers, func(a, b stats.Container) int { return strings.Compare(a.Name, b.Name) })
			pods = append(pods, one)
		}
		w.mu.Unlock()
	}
	slices.SortFunc(pods, func(a, b stats.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name+"/"+a.UID, b.Namespace+"/"+b.Name+"/"+b.UID)
	})
	return pods
}

// containerCgroup is where the runtime puts a container; empty where it shares
// the pod's cgroup.
func (w *worker) containerCgroup(pod, name string) string {
	if pod == "" || w.agent.cfg.Containers.CgroupManager == "disabled" {
		return ""
	}
	return filepath.Join(pod, container.Leaf(name))
}

// toMeasure is the pod as Measured has it, without its containers; nil while it
// has no sandbox.
func (w *worker) toMeasure() *stats.Pod {
	if !w.seen.Sandbox.Ready {
		return nil
	}
	p := &stats.Pod{
		UID: string(w.uid), Namespace: w.namespace, Name: w.podName,
		Cgroup: w.state.Cgroup, CgroupPath: w.state.CgroupPath, Logs: w.logs(),
	}
	if w.sandbox.NetNS != "" {
		p.Network = w.sandbox.PID
	}
	if t := w.status.StartTime; t != nil {
		p.Started = t.Time
	}
	for _, v := range w.pod.Spec.Volumes {
		if v.EmptyDir == nil && v.ConfigMap == nil && v.Secret == nil && v.DownwardAPI == nil && v.Projected == nil {
			continue // it is not the pod's own
		}
		inMemory := v.EmptyDir == nil && v.ConfigMap == nil || v.EmptyDir != nil && v.EmptyDir.Medium != v1.StorageMediumDefault
		p.Volumes = append(p.Volumes, stats.Volume{Name: v.Name, Dir: filepath.Join(w.lib(), "volumes", v.Name), Memory: inMemory})
	}
	return p
}

// ran notes a running container for Measured.
func (w *worker) ran(name string, number int, s container.State) {
	c := stats.Container{
		Name: name, ID: w.id(name, number), Attempt: number, Started: s.StartedAt, PID: s.PID,
		Layer: filepath.Join(w.root(name, number), "upper"),
	}
	if spec := w.spec(name); spec != nil {
		c.Image = spec.Image
	}
	w.running[name] = c
}
