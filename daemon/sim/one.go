package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon"
	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

var podKind = schema.GroupKind{Kind: "Pod"}

// other is a node of which there is nothing but what it says.
type other struct {
	name   string
	key    ed25519.PrivateKey
	record *record.Record
}

func (o *other) say(cluster string, values map[record.Name]json.RawMessage) peer.Answer {
	d := o.record.Publish(record.Stamp(time.Now().UnixNano()), values)
	d.Head = o.record.Sign(cluster, o.key)
	return peer.Answer{Delta: d, Key: o.key.Public().(ed25519.PublicKey)}
}

// one measures a single whole node, in real time, that is the only one to decide
// in a cluster of many: the others are what they say. It takes in their records,
// makes and places all pods, and hears that they run.
func one(nodes, pods int) error {
	dir, err := os.MkdirTemp("", "shoal-sim")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, sub := range []string{"etc/shoal/manifests", "var/lib/shoal"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	c, err := config.Parse("sim", []byte(`node = "n0000"`), "n0000")
	if err != nil {
		return err
	}
	room := v1.ResourceList{v1.ResourceCPU: resource.MustParse("16"), v1.ResourceMemory: resource.MustParse("64Gi"), v1.ResourcePods: resource.MustParse("110")}
	var others []*other
	var members []gossip.Member
	for i := range nodes - 1 {
		seed := sha256.Sum256([]byte(fmt.Sprint(i)))
		o := &other{name: fmt.Sprintf("n%04d", i+1), key: ed25519.NewKeyFromSeed(seed[:])}
		o.record = record.New(o.name, uint64(time.Now().UnixMilli()))
		others = append(others, o)
		members = append(members, gossip.Member{Name: o.name, Status: gossip.Alive, Since: time.Now()}) // not ready to decide
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h, err := daemon.StartHostless(ctx, daemon.HostlessOptions{
		Options: daemon.Options{Root: dir, Config: c, Version: "sim", Log: slog.New(slog.DiscardHandler), Now: time.Now},
		Disk:    new(daemon.Memory), Allocatable: room, Sees: func() []gossip.Member { return members },
	})
	if err != nil {
		return err
	}
	s := newSaid()
	for _, o := range others {
		n := &v1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}}
		n.Name, n.UID, n.CreationTimestamp = o.name, "00000000-0000-8000-8000-000000000000", metav1.Now()
		n.Labels = map[string]string{v1.LabelHostname: o.name, v1.LabelOSStable: "linux", v1.LabelArchStable: "amd64"}
		n.Status = v1.NodeStatus{Capacity: room, Allocatable: room, Conditions: []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "ShoaldReady"}}}
		if err := merge(h, o, record.Status, manifests.Key{Kind: "Node", Name: o.name}, n); err != nil {
			return err
		}
	}
	if err := await(h, "nodes", schema.GroupKind{Kind: "Node"}, nodes, func(view.Object) bool { return true }); err != nil {
		return err
	}
	s.line("the records of %d nodes are taken in", nodes-1)

	for i := range deployments {
		text := deploymentText(fmt.Sprintf("many%d", i), pods/deployments)
		if err := os.WriteFile(filepath.Join(dir, "etc/shoal/manifests", fmt.Sprintf("many%d.yaml", i)), []byte(text), 0o644); err != nil {
			return err
		}
	}
	begun, cpu := time.Now(), processorTime()
	h.Rescan()
	if err := await(h, "pods with a node", podKind, pods, func(o view.Object) bool { return o.(*v1.Pod).Spec.NodeName != "" }); err != nil {
		return err
	}
	took := (processorTime() - cpu).Seconds()
	s.line("%d pods made, placed and published: %.0f a second of processors (%.0f a second of real time)", pods, float64(pods)/took, float64(pods)/time.Since(begun).Seconds())

	of := make(map[string][]*v1.Pod)
	list, _ := h.View().List(podKind, "")
	for _, o := range list {
		p := o.(*v1.Pod)
		of[p.Spec.NodeName] = append(of[p.Spec.NodeName], p)
	}
	at := metav1.Now()
	for _, o := range others {
		values := make(map[record.Name]json.RawMessage)
		for _, p := range of[o.name] {
			raw, err := json.Marshal(view.PodStatus{UID: p.UID, Status: running(p, at)})
			if err != nil {
				return err
			}
			values[record.Name{Section: record.Status, Key: manifests.Key{Kind: "Pod", Namespace: p.Namespace, Name: p.Name}.String()}] = raw
		}
		if _, err := h.Merge(o.say(h.Cluster(), values)); err != nil {
			return err
		}
	}
	runs := func(o view.Object) bool {
		p := o.(*v1.Pod)
		return p.Status.Phase == v1.PodRunning || p.Spec.NodeName == "n0000"
	}
	if err := await(h, "pods that run", podKind, pods, runs); err != nil {
		return err
	}
	s.line("the statuses of %d pods are taken in", pods)
	others, members, of, list = nil, nil, nil, nil
	debug.FreeOSMemory()
	s.line("the process now: %s", memory())
	cpu = processorTime()
	time.Sleep(10 * time.Second)
	s.line("nothing happens for 10 s: %.2f %% of a core", (processorTime()-cpu).Seconds()*10)
	h.Stop()
	return nil
}

// running is the status of a pod as a node tells it, with all that kubectl shows.
func running(p *v1.Pod, at metav1.Time) v1.PodStatus {
	s := v1.PodStatus{Phase: v1.PodRunning, StartTime: &at, HostIP: "10.0.0.1", PodIP: "10.244.1.17", QOSClass: v1.PodQOSBurstable}
	for _, kind := range []v1.PodConditionType{v1.PodReadyToStartContainers, v1.PodInitialized, v1.PodReady, v1.ContainersReady, v1.PodScheduled} {
		s.Conditions = append(s.Conditions, v1.PodCondition{Type: kind, Status: v1.ConditionTrue, LastTransitionTime: at})
	}
	yes := true
	for _, c := range p.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, v1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: c.Image + "@sha256:" + strings.Repeat("0", 64), ContainerID: "shoal://" + strings.Repeat("0", 64),
			Ready: true, Started: &yes, State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: at}},
		})
	}
	return s
}

func merge(h *daemon.Hostless, o *other, section record.Section, key manifests.Key, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	a := o.say(h.Cluster(), map[record.Name]json.RawMessage{{Section: section, Key: key.String()}: raw})
	a.Delta.Whole, a.Delta.From = true, 0
	_, err = h.Merge(a)
	return err
}

// await waits, in real time, until the view has so many objects of a kind.
func await(h *daemon.Hostless, what string, kind schema.GroupKind, want int, counts func(view.Object) bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	for {
		changed := h.View().Changed()
		n := 0
		list, _ := h.View().List(kind, "")
		for _, o := range list {
			if counts(o) {
				n++
			}
		}
		if n >= want {
			return nil
		}
		select { // not after each of ten thousand changes
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return fmt.Errorf("%d of %d %s: %w", n, want, what, errLate)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d %s: %w", n, want, what, errLate)
		}
	}
}

// memory is what the kernel says of this process.
func memory() string {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err.Error()
	}
	var words []string
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "RssAnon:") {
			words = append(words, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(words, ", ")
}
