package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// Conditions of a node that Kubernetes has no name for.
const (
	conditionLimits  v1.NodeConditionType = "shoal.io/LimitsEnforced"
	conditionNetwork v1.NodeConditionType = "shoal.io/PodNetworkReady"
)

// capacity is what the host has, as the kubelet reports it. Pods keep their
// data on the file system of dir.
func capacity(dir string, maxPods int64) (v1.ResourceList, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return nil, fmt.Errorf("find the host's memory: %w", err)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return nil, fmt.Errorf("find the size of %s: %w", dir, err)
	}
	return v1.ResourceList{
		v1.ResourceCPU:              *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		v1.ResourceMemory:           *resource.NewQuantity(int64(info.Totalram)*int64(info.Unit), resource.BinarySI),
		v1.ResourceEphemeralStorage: *resource.NewQuantity(int64(disk.Blocks)*disk.Bsize, resource.BinarySI),
		v1.ResourcePods:             *resource.NewQuantity(maxPods, resource.DecimalSI),
	}, nil
}

// addHugePages adds the huge pages that dir (/sys/kernel/mm/hugepages) says the
// host has set aside. As the kubelet, it is asked once: who sets aside others
// restarts the daemon.
func addHugePages(list v1.ResourceList, dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // a kernel without
	}
	for _, e := range entries {
		size, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB"), 10, 64)
		n, bad := strconv.ParseInt(readLine(filepath.Join(dir, e.Name(), "nr_hugepages")), 10, 64)
		if err != nil || bad != nil {
			continue
		}
		name := v1.ResourceName(v1.ResourceHugePagesPrefix + resource.NewQuantity(size<<10, resource.BinarySI).String())
		list[name] = *resource.NewQuantity(n*size<<10, resource.BinarySI)
	}
}

func (d *Daemon) nodeKey() manifests.Key { return manifests.Key{Kind: "Node", Name: d.Config.Node} }

func (d *Daemon) nodeReference() v1.ObjectReference {
	return v1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: d.Config.Node, UID: view.UID(d.nodeKey(), 0)}
}

// publishNode publishes this node as an object, if it has changed.
func (d *Daemon) publishNode() {
	node := d.node()
	if o, ok := d.view.Get(d.nodeKey()); ok {
		old := o.(*v1.Node)
		node.CreationTimestamp = old.CreationTimestamp
		keepTransitions(node.Status.Conditions, old.Status.Conditions)
	}
	value, err := json.Marshal(node)
	if err != nil {
		d.Log.Error("can't write the node", "err", err)
		return
	}
	d.publish(map[record.Name]json.RawMessage{{Section: record.Status, Key: d.nodeKey().String()}: value})
}

// keepTransitions keeps the time since when a condition is what it is.
func keepTransitions(conditions, old []v1.NodeCondition) {
	for i := range conditions {
		for _, o := range old {
			if o.Type == conditions[i].Type && o.Status == conditions[i].Status {
				conditions[i].LastTransitionTime = o.LastTransitionTime
			}
		}
	}
}

// node is this node as everybody sees it.
func (d *Daemon) node() *v1.Node {
	n := d.about()
	d.nodeWish().wish(n)
	return n
}

// bareNode is what the node says of itself.
func (d *Daemon) bareNode() *v1.Node {
	n := &v1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}}
	n.Name = d.Config.Node
	n.UID = d.nodeReference().UID
	n.CreationTimestamp = metav1.NewTime(d.started)
	n.Labels = nodeLabels(d.Config.Node, runtime.GOARCH, d.Config.Labels)
	if cpus := d.agent.CPUs(); cpus != "" {
		n.Annotations = map[string]string{annotationCPUs: cpus}
	}
	claims, _ := d.host.ways.state()
	for _, p := range cidrsOf(claims) {
		n.Spec.PodCIDRs = append(n.Spec.PodCIDRs, p.String())
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	}
	if text := d.networkAnnotation(); text != "" {
		metav1.SetMetaDataAnnotation(&n.ObjectMeta, annotationNetwork, text)
	}
	n.Status = v1.NodeStatus{
		Capacity: d.host.capacity, Allocatable: d.host.allocatable(),
		Conditions: d.nodeConditions(), NodeInfo: d.nodeInfo(), RuntimeHandlers: d.host.handlers(), Images: d.host.nodeImages(),
	}
	d.addPressure(n)
	if d.Config.Lease.OnlyWitness {
		n.Spec.Taints = append(n.Spec.Taints, witnessTaint)
	}
	for _, ip := range d.host.addresses() {
		n.Status.Addresses = append(n.Status.Addresses, v1.NodeAddress{Type: v1.NodeInternalIP, Address: ip})
	}
	n.Status.Addresses = append(n.Status.Addresses, v1.NodeAddress{Type: v1.NodeHostName, Address: d.Config.Node})
	return n
}

func (d *Daemon) nodeConditions() []v1.NodeCondition {
	since := metav1.NewTime(d.started)
	condition := func(kind v1.NodeConditionType, ok bool, yes, no, message string) v1.NodeCondition {
		c := v1.NodeCondition{Type: kind, Status: v1.ConditionTrue, Reason: yes, Message: message, LastTransitionTime: since, LastHeartbeatTime: since}
		if !ok {
			c.Status, c.Reason = v1.ConditionFalse, no
		}
		return c
	}
	missing, limits := d.host.unenforced()
	said := "pods have a network of their own"
	err, networkSince := d.host.network.state()
	if n := d.host.network.now(); n != nil {
		said += fmt.Sprintf(": %v, MTU %d", n.PodCIDRs(), n.MTU())
	}
	if err != nil {
		said = err.Error()
	}
	network := condition(conditionNetwork, err == nil, "Ready", "Failed", said)
	network.LastTransitionTime = metav1.NewTime(networkSince)
	list := []v1.NodeCondition{
		d.ready(),
		condition(conditionLimits, len(missing) == 0, "AllEnforced", "NotEnforced", limits),
		network,
	}
	if summary, problems, since := d.host.ways.words(); err == nil && (d.fleetWanted() || len(problems) > 0) {
		said := summary
		if len(problems) > 0 {
			said = strings.Join(problems, "; ")
		}
		routes := condition(conditionRoutes, len(problems) == 0, "Ready", "Problems", said)
		routes.LastTransitionTime = metav1.NewTime(since)
		list = append(list, routes)
	}
	return list
}

func (d *Daemon) nodeInfo() v1.NodeSystemInfo {
	info := v1.NodeSystemInfo{
		OperatingSystem: "linux", Architecture: runtime.GOARCH, KubeletVersion: d.Version,
		MachineID: readLine("/etc/machine-id"), BootID: readLine("/proc/sys/kernel/random/boot_id"),
		OSImage:                 osName("/etc/os-release"),
		ContainerRuntimeVersion: "shoal://" + d.Version,
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		info.KernelVersion = unix.ByteSliceToString(u.Release[:])
	}
	return info
}

func readLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(data))
}

// osName is PRETTY_NAME of os-release(5).
func osName(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return ""
}

// unenforced is what this host does not enforce, and that in words.
func (h *host) unenforced() (missing []string, words string) {
	missing, words = h.scopes.Missing(), h.note
	if h.scopes.CgroupV1() {
		missing = append(missing, "containers", "exec")
		words += "; limits hold for a pod as a whole, not for each container, nor for what shoal exec starts"
	}
	if !mayRaiseLimits() { // the OCI runtime can load no device filter then
		missing, words = append(missing, "devices"), words+"; devices are not filtered, so containers get no CAP_MKNOD"
	}
	return missing, words
}
