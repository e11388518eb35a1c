package daemon

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/proxy/service"
)

// led is what a node's view and kernel are to have of the service web: its
// endpoints, and where its cluster IP leads.
func (f *files) led() string {
	f.t.Helper()
	f.reconcile()
	var got []string
	list, _ := f.view.List(sliceKind, "default")
	for _, o := range list {
		for _, e := range o.(*discovery.EndpointSlice).Endpoints {
			got = append(got, fmt.Sprint(e.Addresses[0], " ready=", *e.Conditions.Ready))
		}
	}
	for _, r := range f.lead.everything()[service.Key{Namespace: "default", Name: "web"}].Rules {
		got = append(got, fmt.Sprint("leads to ", r.Backends))
	}
	return strings.Join(got, ", ")
}

// TestEndpointsAndRulesFollowPodsAndServices.
func TestEndpointsAndRulesFollowPodsAndServices(t *testing.T) {
	f := openFiles(t, t.TempDir(), "n1")
	f.goBare()
	f.Config.Network.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}
	f.Config.Network.NodePortRange = config.PortRange{First: 30000, Last: 32767}
	node, err := json.Marshal(&v1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	if err != nil {
		t.Fatal(err)
	}
	f.publish(map[record.Name]json.RawMessage{{Section: record.Status, Key: f.nodeKey().String()}: node})
	p := &v1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
	p.Name, p.Namespace, p.UID, p.Spec.NodeName, p.Labels = "p", "default", "p", "n1", map[string]string{"app": "web"}
	pod := func(p *v1.Pod, ready v1.ConditionStatus) {
		status := view.PodStatus{UID: p.UID, Status: v1.PodStatus{Phase: v1.PodRunning, PodIPs: []v1.PodIP{{IP: "10.244.0.2"}}, Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: ready}}}}
		values := make(map[record.Name]json.RawMessage)
		for section, value := range map[record.Section]any{record.Decisions: p, record.Status: status} {
			raw, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			values[record.Name{Section: section, Key: podKey(p).String()}] = raw
		}
		f.publish(values)
	}
	is := func(when, want string) {
		t.Helper()
		if got := f.led(); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	f.write("web.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n")
	f.scan()
	const leads = "10.244.0.2 ready=true, leads to [10.244.0.2:8080]"
	is("no pod", "leads to []")
	pod(p, v1.ConditionTrue)
	is("a pod", leads)
	pod(p, v1.ConditionFalse)
	is("not ready", "10.244.0.2 ready=false, leads to []")
	pod(p, v1.ConditionTrue)
	is("ready", leads)
	if !f.serves(p) {
		t.Error("it leads to the pod, and that is not known")
	}
	other := p.DeepCopy()
	other.Labels = map[string]string{"app": "db"}
	pod(other, v1.ConditionTrue)
	is("of another label", "leads to []")
	if f.serves(other) {
		t.Error("it does not lead to the pod, and is said to")
	}
	pod(p, v1.ConditionTrue)
	is("of its label again", leads)
	f.remove("web.yaml")
	f.scan()
	f.now = f.now.Add(2 * settle)
	f.scan()
	is("the service is gone", "")
}
