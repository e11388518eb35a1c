package cure

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// lostNode is one that nobody hears of since noon, and that was given up then.
func lostNode(givenUp bool) *v1.Node {
	at := metav1.NewTime(noon)
	n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}
	n.Status.Conditions = []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionUnknown, LastTransitionTime: at}}
	if givenUp {
		n.Spec.Taints = []v1.Taint{{Key: v1.TaintNodeUnreachable, Effect: v1.TaintEffectNoExecute, TimeAdded: &at}}
	}
	return n
}

// lostPod is one of that node, which tolerates its loss for so many seconds; below
// zero for ever.
func lostPod(name, owner string, seconds int64) v1.Pod {
	p := v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	p.Spec.NodeName, p.Status.Phase, p.Status.Reason = "n2", v1.PodRunning, reasonLost
	if owner != "" {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: owner, Name: "web", Controller: &yes}}
	}
	t := v1.Toleration{Key: v1.TaintNodeUnreachable, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute, TolerationSeconds: &seconds}
	if seconds < 0 {
		t.TolerationSeconds = nil
	}
	p.Spec.Tolerations = []v1.Toleration{t}
	return p
}

func TestWhatIsSaidOfAPodOfALostNode(t *testing.T) {
	seen := Host{Node: lostNode(true), Member: "failed", Since: noon, Alive: 2, Members: 3, Now: noon.Add(time.Minute)}
	few, young, left := seen, seen, seen
	few.Alive = 1
	young.Node = lostNode(false)
	left.Member = "left"
	const (
		head   = "default/web-1 is on node n2, of which nobody hears since 2026-11-21T12:00:00Z (60s ago). Whether it runs there is not known.\n"
		advice = "  -> is that host up, and does the network lead to it? There: systemctl status shoald; journalctl -u shoald. It takes its pods up again by itself\n" +
			"  -> if it will not come back: shoal node forget n2\n"
	)
	for _, tt := range []struct {
		name string
		pod  v1.Pod
		host Host
		want string
	}{
		{"replaced", lostPod("web-1", "ReplicaSet", 2), seen, head +
			"  ReplicaSet web has made another one in its place since 2026-11-21T12:00:02Z: shoal get pods -n default -o wide. If the host comes back in time the older one stays, and the surplus goes\n" + advice},
		{"to be replaced", lostPod("web-1", "ReplicaSet", 90), seen, head +
			"  another one is started in its place at 2026-11-21T12:01:30Z (in 30s), unless the host is back by then\n" + advice},
		{"patient", lostPod("web-1", "ReplicaSet", -1), seen, head + "  it tolerates the loss of its node for ever (spec.tolerations), and waits for it\n" + advice},
		{"a daemon set's", lostPod("web-1", "DaemonSet", -1), few, head + "  its daemon set has one on each node: it waits for its host\n" + advice},
		{"cut off", lostPod("web-1", "ReplicaSet", 2), few, head +
			"  nothing is started in its place: only 1 of 3 members are in sight, less than half, and this part may be the one that is cut off\n" + advice},
		{"not given up yet", lostPod("web-1", "ReplicaSet", 2), young, head +
			"  its node is not given up yet: that takes node_monitor_grace_period, and at most node_eviction_rate nodes a second go (shoal.toml, [eviction])\n" + advice},
		{"its host has left", lostPod("web-1", "", 2), left, head +
			"  it was to go at 2026-11-21T12:00:02Z; whoever declared it named its node, and it waits for that\n" +
			"  -> that host has left the cluster: `systemctl start shoald` or `shoal join` there brings it back\n  -> if it will not come back: shoal node forget n2\n"},
	} {
		if got := Lost(&tt.pod, tt.host); got != tt.want {
			t.Errorf("%s: got:\n%s\nwant:\n%s", tt.name, got, tt.want)
		}
	}
}

func TestWhyNode(t *testing.T) {
	well := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}
	well.Status.Conditions = []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue}, {Type: v1.NodeDiskPressure, Status: v1.ConditionTrue, Message: "the disk is full"},
		{Type: v1.NodeMemoryPressure, Status: v1.ConditionFalse}, {Type: "shoal.io/PodNetworkReady", Status: v1.ConditionTrue}}
	cordoned := well.DeepCopy()
	cordoned.Spec.Unschedulable, cordoned.Status.Conditions = true, cordoned.Status.Conditions[:1]
	pods := []v1.Pod{lostPod("web-1", "ReplicaSet", 2), lostPod("web-2", "ReplicaSet", 2), lostPod("log-1", "DaemonSet", -1)}
	warned := []v1.Event{{Type: v1.EventTypeWarning, Reason: "FreeDiskSpaceFailed", Message: "too few images", InvolvedObject: v1.ObjectReference{Kind: "Node", Name: "n2"}, Count: 3}}
	for _, tt := range []struct {
		host Host
		want string
	}{
		{Host{}, "there is no node n2.\n"},
		{Host{Node: well, Now: noon}, "node n2 is ready.\n  DiskPressure is True: the disk is full\n  3 pods are on it\nwarnings, newest first:\n  FreeDiskSpaceFailed (3 times): too few images\n"},
		{Host{Node: cordoned, Member: "alive", Since: noon.Add(-time.Hour), Now: noon}, "node n2 is ready, and cordoned: no new pods go there.\n  -> shoal uncordon n2, when its maintenance is done\n" +
			"  as a member it is alive since 2026-11-21T11:00:00Z (60m ago)\n  3 pods are on it\nwarnings, newest first:\n  FreeDiskSpaceFailed (3 times): too few images\n"},
		{Host{Node: lostNode(true), Member: "unseen", Alive: 2, Members: 3, Now: noon.Add(time.Minute)},
			"node n2 is lost: nobody hears of it since 2026-11-21T12:00:00Z (60s ago).\n" +
				"  default/web-1, default/web-2: ReplicaSet web has made another one in its place since 2026-11-21T12:00:02Z: shoal get pods -n default -o wide. If the host comes back in time the older one stays, and the surplus goes\n" +
				"  default/log-1: its daemon set has one on each node: it waits for its host\n" +
				"  -> is that host up, and does the network lead to it? There: systemctl status shoald; journalctl -u shoald. It takes its pods up again by itself\n" +
				"  -> if it will not come back: shoal node forget n2\nwarnings, newest first:\n  FreeDiskSpaceFailed (3 times): too few images\n"},
	} {
		if got := WhyNode("n2", tt.host, pods, warned); got != tt.want {
			t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
		}
	}
}
