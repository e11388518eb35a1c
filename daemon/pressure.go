package daemon

import (
	"context"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	scheduling "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/pressure"
	"github.com/shoal-project/shoal/daemon/stats"
)

const (
	// pressurePeriod is how often the host is looked at (the kubelet's
	// evictionMonitoringPeriod): some ten small files and two statfs.
	pressurePeriod = 10 * time.Second
	// evictionWait is how long an evicted pod may take to end before the next
	// goes (the kubelet's podCleanupTimeout).
	evictionWait = 30 * time.Second

	// evictionGrace is what a pod gets that must go at once (the kubelet's
	// immediateEvictionGracePeriodSeconds).
	evictionGrace = time.Second
	// countingTime is how long a look waits for files to be counted; the count goes
	// on, and the next look has it.
	countingTime = 2 * time.Second

	reasonEvicted = "Evicted"
)

// watcher keeps the host from running short.
type watcher struct {
	d       *Daemon
	state   pressure.State
	evicted map[types.UID]time.Time // pods that are ending, and since when
}

// watchPressure looks at the host until ctx ends. A pod is evicted per look.
func (d *Daemon) watchPressure(ctx context.Context) {
	w := &watcher{d: d, evicted: make(map[types.UID]time.Time), state: pressure.Restored(d.pressure.Load().conditions, d.Now())}
	tick := time.NewTicker(pressurePeriod)
	defer tick.Stop()
	for {
		w.look(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// nodePressure is what holds of the node now.
type nodePressure struct {
	conditions []v1.NodeConditionType
	at         time.Time
}

func (w *watcher) look(ctx context.Context) {
	d := w.d
	node, err := d.host.meter.Node()
	if err != nil {
		d.Log.Error("can't measure what the host is short of", "err", err)
		return
	}
	seen := observations(node)
	var v pressure.Verdict
	w.state, v = pressure.Look(d.Config.Eviction.Thresholds, d.Config.Eviction.TransitionPeriod, w.state, seen, d.Now())
	w.publish(ctx, v.Conditions)
	if w.enforceLimits(ctx, splitDisks(node)) || len(v.Starved) == 0 || w.waiting() {
		return
	}
	what := v.Starved[0].Signal
	d.events.Warning(d.nodeReference(), "EvictionThresholdMet", "Attempting to reclaim %s", what.Resource())
	if w.reclaim(ctx, what, node) {
		return
	}
	w.evict(ctx, v.Starved, seen, splitDisks(node))
}

// publish makes the node's conditions what they are.
func (w *watcher) publish(ctx context.Context, conditions []v1.NodeConditionType) {
	d := w.d
	before := d.pressure.Swap(&nodePressure{conditions, d.Now()})
	if slices.Equal(before.conditions, conditions) {
		return
	}
	for _, c := range pressureConditions {
		was, is := slices.Contains(before.conditions, c.kind), slices.Contains(conditions, c.kind)
		switch {
		case is && !was:
			d.events.Normal(d.nodeReference(), c.event, "Node %s status is now: %s", d.Config.Node, c.event)
		case was && !is:
			d.events.Normal(d.nodeReference(), c.eventNot, "Node %s status is now: %s", d.Config.Node, c.eventNot)
		}
	}
	_ = d.do(ctx, d.publishNode) // else the daemon ends
}

// observations are the kubelet's signals (makeSignalObservations).
func observations(n stats.Node) pressure.Observations {
	o := make(pressure.Observations)
	add := func(s pressure.Signal, available, capacity stats.Amount) {
		a, known := available.Get()
		c, measured := capacity.Get()
		if known && measured && c > 0 {
			o[s] = pressure.Observation{Available: int64(a), Capacity: int64(c)}
		}
	}
	add(pressure.MemoryAvailable, n.Available, n.Capacity)
	add(pressure.NodeFSAvailable, n.Root.Available, n.Root.Capacity)
	add(pressure.NodeFSInodesFree, n.Root.InodesFree, n.Root.Inodes)
	add(pressure.ImageFSAvailable, n.Images.Available, n.Images.Capacity)
	add(pressure.ImageFSInodesFree, n.Images.InodesFree, n.Images.Inodes)
	add(pressure.PIDAvailable, n.MaxProcesses.Minus(n.Processes), n.MaxProcesses)
	return o
}

// splitDisks says whether images have a disk of their own. Writable layers lie
// with the volumes, so that disk holds images alone.
func splitDisks(n stats.Node) bool { return n.Root.ID != n.Images.ID }

// waiting says whether an evicted pod has not ended yet.
func (w *watcher) waiting() bool {
	running := make(map[types.UID]bool)
	for _, p := range w.d.agent.Measured() {
		running[types.UID(p.UID)] = true
	}
	for uid, since := range w.evicted {
		if !running[uid] || w.d.Now().Sub(since) > evictionWait {
			delete(w.evicted, uid)
		}
	}
	return len(w.evicted) > 0
}

// reclaim frees what no pod needs, and says whether that was enough: then no pod
// goes. Dead containers hold no disk here, so there are only images.
func (w *watcher) reclaim(ctx context.Context, what pressure.Signal, node stats.Node) bool {
	images := what == pressure.ImageFSAvailable || what == pressure.ImageFSInodesFree
	disk := images || what == pressure.NodeFSAvailable || what == pressure.NodeFSInodesFree
	if !disk || splitDisks(node) && !images {
		return false
	}
	d, now := w.d, w.d.Now()
	list, err := d.images(now)
	if err != nil {
		d.Log.Error("can't remove unused images", "err", err)
		return false
	}
	policy := d.imagePolicy()
	if _, err := d.removeImages(ctx, pressure.UnusedImages(list, policy, now), 0, now.Add(-policy.MinAge)); err != nil {
		d.Log.Error("can't remove unused images", "err", err)
	}
	after, err := d.host.meter.Node()
	return err == nil && pressure.Relieved(d.Config.Eviction.Thresholds, observations(after))
}

// evict ends the pod that ranks first.
func (w *watcher) evict(ctx context.Context, starved []pressure.Threshold, seen pressure.Observations, split bool) {
	d, what := w.d, starved[0].Signal
	sample, err := d.host.meter.Sample()
	if err != nil {
		d.Log.Error("can't measure what pods use", "err", err)
		return
	}
	var files stats.Storage
	if r := what.Resource(); r != v1.ResourceMemory && what != pressure.PIDAvailable {
		files = w.files(ctx)
	}
	pods := w.usage(sample, files)
	pressure.Rank(pods, what, split)
	for _, u := range pods {
		if pressure.Critical(u.Pod) {
			d.Log.Error("a critical pod is not evicted", "pod", u.Pod.Namespace+"/"+u.Pod.Name)
			continue
		}
		grace := evictionGrace
		if starved[0].Soft {
			grace = d.Config.Eviction.MaxPodGracePeriod
		}
		w.end(u.Pod, pod.Ending{Reason: reasonEvicted, Message: pressure.Message(u, starved, seen), Grace: grace, Disruption: true})
		return
	}
}

func (w *watcher) end(p *v1.Pod, why pod.Ending) {
	w.d.events.Warning(objectReference(p), reasonEvicted, "%s", why.Message)
	w.d.agent.End(p.UID, why)
	w.evicted[p.UID] = w.d.Now()
}

// files are what pods keep on disk, as last counted: nothing may hold up the
// next look at the memory.
func (w *watcher) files(ctx context.Context) stats.Storage {
	ctx, cancel := context.WithTimeout(ctx, countingTime)
	defer cancel()
	return w.d.host.meter.Storage(ctx)
}

// usage joins the pods that run with what they use.
func (w *watcher) usage(sample *stats.Sample, files stats.Storage) []pressure.Usage {
	pods := make(map[string]*v1.Pod)
	for _, p := range w.d.pods() {
		pods[string(p.UID)] = p
	}
	n := func(a stats.Amount) int64 { return int64(a.Or(0)) }
	on := func(d stats.Disk) pressure.Files { return pressure.Files{Bytes: n(d.Bytes), Inodes: n(d.Inodes)} }
	var list []pressure.Usage
	for _, s := range sample.Pods {
		p := pods[s.UID]
		if p == nil || p.DeletionTimestamp != nil || p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed {
			continue
		}
		disk := files.Pods[s.UID]
		_, known := s.Memory.WorkingSet.Get()
		u := pressure.Usage{
			Pod: w.d.withPriority(p), Known: known, Memory: n(s.Memory.WorkingSet), Processes: n(s.Processes), Total: n(disk.Total.Bytes),
		}
		for _, c := range s.Containers {
			kept := disk.Containers[c.Name]
			u.Containers = append(u.Containers, pressure.ContainerUsage{
				Name: c.Name, Memory: n(c.Memory.WorkingSet), Layer: on(kept.Layer), Logs: on(kept.Logs),
			})
		}
		for _, v := range s.Volumes {
			u.Volumes = append(u.Volumes, pressure.VolumeUsage{Name: v.Name, InMemory: v.Memory, Files: on(disk.Volumes[v.Name])})
		}
		list = append(list, u)
	}
	return list
}

// enforceLimits evicts the pods that keep more on disk than their own limits
// allow. Files are counted no more often than each minute, and only when a pod
// has such a limit.
func (w *watcher) enforceLimits(ctx context.Context, split bool) (evicted bool) {
	d := w.d
	limited := slices.ContainsFunc(d.pods(), func(p *v1.Pod) bool {
		return p.Status.Phase == v1.PodRunning && p.DeletionTimestamp == nil && pressure.Limited(p)
	})
	if !limited {
		return false
	}
	sample, err := d.host.meter.Sample()
	if err != nil {
		return false // said by look
	}
	for _, u := range w.usage(sample, w.files(ctx)) {
		why := pressure.OverLimit(u, split)
		if _, ending := w.evicted[u.Pod.UID]; why == "" || ending || pressure.Critical(u.Pod) {
			continue
		}
		w.end(u.Pod, pod.Ending{Reason: reasonEvicted, Message: why, Grace: evictionGrace})
		evicted = true
	}
	return evicted
}

// withPriority is the pod with its class's priority as its own.
func (d *Daemon) withPriority(p *v1.Pod) *v1.Pod {
	n := pressure.Priority(p, func(name string) (int32, bool) {
		objects, _ := d.view.List(schema.GroupKind{Group: scheduling.GroupName, Kind: "PriorityClass"}, "")
		for _, o := range objects {
			if c, ok := o.(*scheduling.PriorityClass); ok && (c.Name == name || name == "" && c.GlobalDefault) {
				return c.Value, true
			}
		}
		return 0, false
	})
	p = p.DeepCopy()
	p.Spec.Priority = &n
	return p
}

// pressureConditions are the conditions that tell what the node is short of,
// in the kubelet's words (pkg/kubelet/nodestatus/setters.go).
var pressureConditions = []pressureCondition{
	{v1.NodeMemoryPressure, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available", "NodeHasInsufficientMemory",
		"KubeletHasSufficientMemory", "kubelet has sufficient memory available", "NodeHasSufficientMemory"},
	{v1.NodeDiskPressure, "KubeletHasDiskPressure", "kubelet has disk pressure", "NodeHasDiskPressure",
		"KubeletHasNoDiskPressure", "kubelet has no disk pressure", "NodeHasNoDiskPressure"},
	{v1.NodePIDPressure, "KubeletHasInsufficientPID", "kubelet has insufficient PID available", "NodeHasInsufficientPID",
		"KubeletHasSufficientPID", "kubelet has sufficient PID available", "NodeHasSufficientPID"},
}

type pressureCondition struct {
	kind                            v1.NodeConditionType
	reason, message, event          string // of one that holds
	reasonNot, messageNot, eventNot string
}

// addPressure adds what the node is short of to its object.
func (d *Daemon) addPressure(n *v1.Node) {
	if d.shuttingDown() {
		n.Spec.Taints = append(n.Spec.Taints, notReadyTaint)
	}
	now := d.pressure.Load()
	since := metav1.NewTime(now.at)
	for _, c := range pressureConditions {
		condition := v1.NodeCondition{
			Type: c.kind, Status: v1.ConditionFalse, Reason: c.reasonNot, Message: c.messageNot,
			LastTransitionTime: since, LastHeartbeatTime: metav1.NewTime(d.started),
		}
		if slices.Contains(now.conditions, c.kind) {
			condition.Status, condition.Reason, condition.Message = v1.ConditionTrue, c.reason, c.message
			n.Spec.Taints = append(n.Spec.Taints, pressure.Taint(c.kind))
		}
		n.Status.Conditions = append(n.Status.Conditions, condition)
	}
}

// restorePressure takes up what the node said of itself before the daemon was
// restarted: what was short a moment ago still counts.
func (d *Daemon) restorePressure() {
	now := &nodePressure{at: d.started}
	if o, ok := d.view.Get(d.nodeKey()); ok {
		for _, c := range o.(*v1.Node).Status.Conditions {
			known := slices.ContainsFunc(pressureConditions, func(p pressureCondition) bool { return p.kind == c.Type })
			if known && c.Status == v1.ConditionTrue {
				now.conditions = append(now.conditions, c.Type)
			}
		}
		slices.Sort(now.conditions)
	}
	d.pressure.Store(now)
}
