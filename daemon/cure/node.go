package cure

import (
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/shoal-project/shoal/daemon/workload"
)

// reasonLost is the status reason of pods whose node nobody hears of (upstream's
// pkg/util/node NodeUnreachablePodReason).
const reasonLost = "NodeLost"

// IsLost says whether nobody hears of a pod's node.
func IsLost(p *v1.Pod) bool { return p.Status.Reason == reasonLost && p.Spec.NodeName != "" }

// Host is a node as the one that was asked sees it.
type Host struct {
	Node   *v1.Node // nil: none of that name
	Member string   // how it is as a member: "alive", "failed", "left", "unseen", ...; "": it is none
	Since  time.Time
	// Alive and Members are how many members are in sight, of all that there are.
	Alive, Members int
	Now            time.Time
}

// Lost says in a few lines what it means for a pod that nobody hears of its node:
// since when, what happens and when, and what to do.
func Lost(p *v1.Pod, h Host) string {
	w := &answer{pod: p}
	since := ""
	if at, lost := h.lost(); lost {
		since = " since " + h.ago(at)
	}
	w.line(0, "%s/%s is on node %s, of which nobody hears%s. Whether it runs there is not known.", p.Namespace, p.Name, p.Spec.NodeName, since)
	w.line(1, "%s", h.fate(p))
	h.advise(w, p.Spec.NodeName)
	return w.text.String()
}

// lost says whether nobody hears of the node, and since when.
func (h Host) lost() (since time.Time, is bool) {
	if h.Node == nil {
		return since, false
	}
	for _, c := range h.Node.Status.Conditions {
		if c.Type == v1.NodeReady && c.Status == v1.ConditionUnknown {
			return c.LastTransitionTime.Time, true
		}
	}
	return since, false
}

// ago is a moment in words.
func (h Host) ago(at time.Time) string {
	return at.UTC().Format(time.RFC3339) + " (" + duration.HumanDuration(h.Now.Sub(at)) + " ago)"
}

// few is why nobody is evicted, "" where that is not so.
func (h Host) few() string {
	if h.Alive*2 >= h.Members {
		return ""
	}
	return fmt.Sprintf("only %d of %d members are in sight, less than half, and this part may be the one that is cut off", h.Alive, h.Members)
}

// fate is what becomes of a pod of a lost node.
func (h Host) fate(p *v1.Pod) string {
	ref := metav1.GetControllerOf(p)
	switch {
	case h.Node == nil:
		return "there is no such node any more: the pod is ended as soon as that is certain"
	case workload.Static(p):
		return "it is a static pod of that host, and waits for it"
	case ref != nil && ref.Kind == workload.KindDaemonSet.Kind:
		return "its daemon set has one on each node: it waits for its host"
	case h.few() != "":
		return "nothing is started in its place: " + h.few()
	case !workload.Unreachable(h.Node):
		return "its node is not given up yet: that takes node_monitor_grace_period, and at most node_eviction_rate nodes a second go (shoal.toml, [eviction])"
	}
	at, goes := workload.DrivenOutAt(p, h.Node.Spec.Taints)
	switch {
	case !goes:
		return "it tolerates the loss of its node for ever (spec.tolerations), and waits for it"
	case at.After(h.Now):
		return fmt.Sprintf("another one is started in its place at %s (in %s), unless the host is back by then", at.UTC().Format(time.RFC3339), duration.HumanDuration(at.Sub(h.Now)))
	case ref != nil:
		return fmt.Sprintf("%s %s has made another one in its place since %s: shoal get pods -n %s -o wide. If the host comes back in time the older one stays, and the surplus goes",
			ref.Kind, ref.Name, at.UTC().Format(time.RFC3339), p.Namespace)
	}
	return "it was to go at " + at.UTC().Format(time.RFC3339) + "; whoever declared it named its node, and it waits for that"
}

// advise says what a person can do about a node that is lost.
func (h Host) advise(w *answer, name string) {
	switch h.Member {
	case "left":
		w.line(1, "-> that host has left the cluster: `systemctl start shoald` or `shoal join` there brings it back")
	case "alive":
		w.line(1, "-> that host is in sight again: its pods count again in a moment")
		return
	default:
		w.line(1, "-> is that host up, and does the network lead to it? There: systemctl status shoald; journalctl -u shoald. It takes its pods up again by itself")
	}
	w.line(1, "-> if it will not come back: shoal node forget %s", name)
}

// WhyNode says in a few lines how a node is, what that does to its pods, and what
// to do. pods are those on it; name is what was asked for.
func WhyNode(name string, h Host, pods []v1.Pod, events []v1.Event) string {
	w := &answer{pod: &v1.Pod{}}
	if h.Node == nil {
		w.line(0, "there is no node %s.", name)
		return w.text.String()
	}
	since, lost := h.lost()
	ready := condition(h.Node, v1.NodeReady)
	switch {
	case lost:
		w.line(0, "node %s is lost: nobody hears of it since %s.", name, h.ago(since))
	case ready == nil:
		w.line(0, "node %s has not said yet how it is.", name)
	case ready.Status != v1.ConditionTrue:
		w.line(0, "node %s is not ready since %s: %s", name, h.ago(ready.LastTransitionTime.Time), strings.TrimSuffix(ready.Message, "."))
	case h.Node.Spec.Unschedulable:
		w.line(0, "node %s is ready, and cordoned: no new pods go there.", name)
		w.line(1, "-> shoal uncordon %s, when its maintenance is done", name)
	default:
		w.line(0, "node %s is ready.", name)
	}
	if h.Member != "" && !h.Since.IsZero() {
		w.line(1, "as a member it is %s since %s", h.Member, h.ago(h.Since))
	}
	for _, c := range h.Node.Status.Conditions {
		// Kubernetes' own are good when they are False, those of a domain when they
		// are True.
		if own := strings.Contains(string(c.Type), "/"); c.Type != v1.NodeReady && (c.Status == v1.ConditionTrue) != own && c.Status != v1.ConditionUnknown {
			w.line(1, "%s is %s: %s", c.Type, c.Status, c.Message)
		}
	}
	if lost {
		h.podsOfLost(w, pods)
		h.advise(w, name)
	} else {
		w.line(1, "%d pods are on it", running(pods))
	}
	w.nodeEvents(name, events)
	return w.text.String()
}

func condition(n *v1.Node, kind v1.NodeConditionType) *v1.NodeCondition {
	i := slices.IndexFunc(n.Status.Conditions, func(c v1.NodeCondition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &n.Status.Conditions[i]
}

func running(pods []v1.Pod) (n int) {
	for i := range pods {
		if p := &pods[i]; p.Status.Phase != v1.PodSucceeded && p.Status.Phase != v1.PodFailed {
			n++
		}
	}
	return n
}

// podsOfLost says what becomes of the pods, those with one fate together.
func (h Host) podsOfLost(w *answer, pods []v1.Pod) {
	names := make(map[string][]string)
	var order []string
	for i := range pods {
		p := &pods[i]
		if p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed {
			continue
		}
		fate := h.fate(p)
		if names[fate] == nil {
			order = append(order, fate)
		}
		names[fate] = append(names[fate], p.Namespace+"/"+p.Name)
	}
	if why := h.few(); why != "" {
		w.line(1, "EVICTS NOBODY: %s", why)
	}
	for _, fate := range order {
		list := names[fate]
		more := ""
		if len(list) > mostNames {
			more = fmt.Sprintf(" and %d more", len(list)-mostNames)
		}
		w.line(1, "%s%s: %s", strings.Join(list[:min(len(list), mostNames)], ", "), more, fate)
	}
}

// mostNames bounds how many pods are named together.
const mostNames = 8

// nodeEvents writes the newest warning of each reason about the node.
func (w *answer) nodeEvents(name string, events []v1.Event) {
	events = slices.DeleteFunc(slices.Clone(events), func(e v1.Event) bool {
		return e.Type != v1.EventTypeWarning || e.InvolvedObject.Kind != "Node" || e.InvolvedObject.Name != name
	})
	slices.SortStableFunc(events, func(a, b v1.Event) int { return b.LastTimestamp.Time.Compare(a.LastTimestamp.Time) })
	seen := make(map[string]bool)
	for _, e := range events {
		if seen[e.Reason] || len(seen) == mostEvents {
			continue
		}
		if len(seen) == 0 {
			w.line(0, "warnings, newest first:")
		}
		seen[e.Reason] = true
		w.line(1, "%s%s: %s", e.Reason, times(e.Count), e.Message)
	}
}
