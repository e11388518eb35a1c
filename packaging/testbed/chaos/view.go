package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// View is what one host's API says there is.
type View struct {
	Objects     map[string]any // by KIND NAMESPACE/NAME, as JSON decodes; without what each node has for itself
	Pods        []v1.Pod
	Nodes       []v1.Node
	Configs     []v1.ConfigMap
	Deployments []appsv1.Deployment
	ReplicaSets []appsv1.ReplicaSet
	DaemonSets  []appsv1.DaemonSet
}

// viewed are the kinds that views hold.
const viewed = "pods,nodes,configmaps,namespaces,serviceaccounts,deployments,replicasets,daemonsets,controllerrevisions"

// ReadView decodes `shoal get -o json` of the kinds above.
func ReadView(text []byte) (View, error) {
	var list struct{ Items []json.RawMessage }
	if err := json.Unmarshal(text, &list); err != nil {
		return View{}, fmt.Errorf("not a list of objects: %w: %.200q", err, text)
	}
	v := View{Objects: make(map[string]any)}
	for _, item := range list.Items {
		var m metav1.PartialObjectMetadata
		if err := json.Unmarshal(item, &m); err != nil {
			return v, err
		}
		o, err := common(item)
		if err == nil {
			err = v.keep(m.Kind, item)
		}
		if err != nil {
			return v, fmt.Errorf("%s %s/%s: %w", m.Kind, m.Namespace, m.Name, err)
		}
		v.Objects[m.Kind+" "+m.Namespace+"/"+m.Name] = o
	}
	return v, nil
}

func (v *View) keep(kind string, item []byte) error {
	switch kind {
	case "Pod":
		return add(&v.Pods, item)
	case "Node":
		return add(&v.Nodes, item)
	case "ConfigMap":
		return add(&v.Configs, item)
	case "Deployment":
		return add(&v.Deployments, item)
	case "ReplicaSet":
		return add(&v.ReplicaSets, item)
	case "DaemonSet":
		return add(&v.DaemonSets, item)
	}
	return nil
}

func add[T any](list *[]T, item []byte) error {
	var o T
	err := json.Unmarshal(item, &o)
	*list = append(*list, o)
	return err
}

// common is what all nodes have to say alike of an object. Resource versions are each view's own, and signs of life come
// all the time.
func common(item []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(item))
	d.UseNumber()
	var o map[string]any
	if err := d.Decode(&o); err != nil {
		return nil, err
	}
	if meta, ok := o["metadata"].(map[string]any); ok {
		delete(meta, "resourceVersion")
	}
	if o["kind"] == "Node" {
		if status, ok := o["status"].(map[string]any); ok {
			list, _ := status["conditions"].([]any)
			for _, c := range list {
				delete(c.(map[string]any), "lastHeartbeatTime")
			}
		}
	}
	return o, nil
}

// Disagreements is how the views of several hosts differ, by the names of the hosts: nothing when they are the same.
func Disagreements(views map[string]View) []string {
	hosts := slices.Sorted(maps.Keys(views))
	keys := make(map[string]bool)
	for _, v := range views {
		for key := range v.Objects {
			keys[key] = true
		}
	}
	var found []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		first := hosts[0]
		for _, host := range hosts[1:] {
			if where := differ(views[first].Objects[key], views[host].Objects[key]); where != "" {
				found = append(found, fmt.Sprintf("%s: %s and %s differ%s", key, first, host, where))
			}
		}
	}
	return found
}

// differ is where two JSON values differ first, and how; empty when they do not.
func differ(a, b any) string {
	ma, okA := a.(map[string]any)
	mb, okB := b.(map[string]any)
	if okA && okB {
		for _, key := range slices.Sorted(maps.Keys(ma)) {
			if where := differ(ma[key], mb[key]); where != "" {
				return "." + key + where
			}
		}
		for _, key := range slices.Sorted(maps.Keys(mb)) {
			if _, ok := ma[key]; !ok {
				return "." + key + differ(nil, mb[key])
			}
		}
		return ""
	}
	la, okA := a.([]any)
	lb, okB := b.([]any)
	if okA && okB && len(la) == len(lb) {
		for i := range la {
			if where := differ(la[i], lb[i]); where != "" {
				return fmt.Sprintf("[%d]%s", i, where)
			}
		}
		return ""
	}
	if reflect.DeepEqual(a, b) {
		return ""
	}
	return fmt.Sprintf(": %s, %s", brief(a), brief(b))
}

func brief(v any) string {
	if v == nil {
		return "nothing"
	}
	text, _ := json.Marshal(v)
	return strings.ToValidUTF8(fmt.Sprintf("%.120s", text), "")
}
