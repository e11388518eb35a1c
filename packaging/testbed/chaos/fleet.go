package chaos

import (
	"fmt"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// edited is the annotation, and the variable in a pod's environment, that tells which edit of an object is in force.
const edited = "EDIT"

// Declared is what the files on all hosts say now: by object, the edits that some host's file has.
type Declared map[string][]string

// Amiss compares a view of a cluster at rest with what its files declare, by Kubernetes' rules: each Deployment has exactly as
// many pods as it wants, each DaemonSet one on each node, each declared pod runs, all of them ready and as their
// newest template says; and there is no other pod.
func (v View) Amiss(hosts []string, declared Declared) []string {
	a := amiss{View: v, declared: declared, owned: make(map[string][]v1.Pod)}
	for _, p := range v.Pods {
		a.owned[owner(p.ObjectMeta)] = append(a.owned[owner(p.ObjectMeta)], p)
	}
	a.nodes(hosts)
	a.deployments()
	a.daemonSets(hosts)
	a.declaredPods()
	a.ready()
	slices.Sort(a.found)
	return slices.Compact(a.found)
}

type amiss struct {
	View
	declared Declared
	owned    map[string][]v1.Pod // by KIND NAME of their controller
	found    []string
}

func (a *amiss) say(format string, args ...any) {
	a.found = append(a.found, fmt.Sprintf(format, args...))
}

func owner(m metav1.ObjectMeta) string {
	if c := metav1.GetControllerOf(&m); c != nil {
		return c.Kind + " " + c.Name
	}
	return ""
}

func (a *amiss) nodes(hosts []string) {
	var names []string
	for _, n := range a.Nodes {
		names = append(names, n.Name)
		if len(n.Spec.Taints) > 0 {
			a.say("node %s has taints: %v", n.Name, n.Spec.Taints)
		}
		for _, c := range n.Status.Conditions {
			if c.Type == v1.NodeReady && c.Status != v1.ConditionTrue {
				a.say("node %s is not ready: %s %s", n.Name, c.Reason, c.Message)
			}
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, hosts) {
		a.say("nodes are %q, want %q", names, hosts)
	}
}

// inForce checks that what an object says is what a file says, and says so if not.
func (a *amiss) inForce(what, name, edit string) {
	if edits, ok := a.declared[name]; ok && !slices.Contains(edits, edit) {
		a.say("%s %s: edit %q is in force, files have %q", what, name, edit, edits)
	}
}

func (a *amiss) deployments() {
	for _, d := range a.Deployments {
		edit := templateEdit(d.Spec.Template.Spec)
		a.inForce("deployment", d.Name, edit)
		var pods []v1.Pod
		for _, rs := range a.ReplicaSets {
			if owner(rs.ObjectMeta) == "Deployment "+d.Name {
				pods = append(pods, a.owned["ReplicaSet "+rs.Name]...)
			}
		}
		if want := int(*d.Spec.Replicas); len(pods) != want {
			a.say("deployment %s: %d pods, want %d: %s", d.Name, len(pods), want, names(pods))
		}
		a.template("deployment "+d.Name, pods, edit)
		s := d.Status
		if s.ObservedGeneration != d.Generation || s.ReadyReplicas != *d.Spec.Replicas || s.Replicas != *d.Spec.Replicas || s.UpdatedReplicas != *d.Spec.Replicas {
			a.say("deployment %s: its status is behind: generation %d, %+v", d.Name, d.Generation, brief(appsv1.DeploymentStatus{
				ObservedGeneration: s.ObservedGeneration, Replicas: s.Replicas, UpdatedReplicas: s.UpdatedReplicas, ReadyReplicas: s.ReadyReplicas}))
		}
	}
	for _, rs := range a.ReplicaSets {
		if of := owner(rs.ObjectMeta); !slices.ContainsFunc(a.Deployments, func(d appsv1.Deployment) bool { return of == "Deployment "+d.Name }) {
			a.say("replica set %s: its owner is gone: %q", rs.Name, of)
		}
	}
}

func (a *amiss) daemonSets(hosts []string) {
	for _, d := range a.DaemonSets {
		edit := templateEdit(d.Spec.Template.Spec)
		a.inForce("daemon set", d.Name, edit)
		pods, on := a.owned["DaemonSet "+d.Name], make(map[string]int)
		for _, p := range pods {
			on[p.Spec.NodeName]++
		}
		for _, h := range hosts {
			if on[h] != 1 {
				a.say("daemon set %s: %d pods on %s", d.Name, on[h], h)
			}
		}
		if len(pods) != len(hosts) {
			a.say("daemon set %s: %d pods, want %d: %s", d.Name, len(pods), len(hosts), names(pods))
		}
		a.template("daemon set "+d.Name, pods, edit)
	}
}

func (a *amiss) template(of string, pods []v1.Pod, edit string) {
	for _, p := range pods {
		if got := templateEdit(p.Spec); got != edit {
			a.say("%s: pod %s is of edit %q, want %q", of, p.Name, got, edit)
		}
	}
}

// declaredPods looks at pods that no controller has, and at owners that are not there.
func (a *amiss) declaredPods() {
	bare := make(map[string]bool)
	for _, p := range a.owned[""] {
		bare[p.Name] = true
		if _, ok := a.declared[p.Name]; !ok {
			a.say("pod %s: no file declares it", p.Name)
		}
		a.inForce("pod", p.Name, templateEdit(p.Spec))
		a.inForce("pod", p.Name, p.Annotations[edited])
	}
	known := map[string]bool{"": true}
	for _, rs := range a.ReplicaSets {
		known["ReplicaSet "+rs.Name] = true
	}
	for _, d := range a.DaemonSets {
		known["DaemonSet "+d.Name] = true
		bare[d.Name] = true
	}
	for _, d := range a.Deployments {
		bare[d.Name] = true
	}
	for _, of := range slices.Sorted(maps.Keys(a.owned)) {
		if !known[of] {
			a.say("%s is not there, and has %s", of, names(a.owned[of]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.declared)) {
		if !bare[name] {
			a.say("%s: a file declares it, and there is none", name)
		}
	}
}

func (a *amiss) ready() {
	for _, p := range a.Pods {
		if why := notReady(p); why != "" {
			a.say("pod %s on %s %s", p.Name, p.Spec.NodeName, why)
		}
	}
}

func notReady(p v1.Pod) string {
	switch {
	case p.DeletionTimestamp != nil:
		return "is about to end"
	case p.Spec.NodeName == "":
		return "has no node"
	}
	for _, c := range p.Status.Conditions {
		if c.Type == v1.PodReady && c.Status == v1.ConditionTrue {
			return ""
		}
	}
	why := "is not ready: " + string(p.Status.Phase)
	for _, c := range p.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil {
			why += ", " + w.Reason + " " + w.Message
		}
	}
	return why
}

func templateEdit(spec v1.PodSpec) string {
	for _, c := range spec.Containers {
		for _, e := range c.Env {
			if e.Name == edited {
				return e.Value
			}
		}
	}
	return ""
}

func names(pods []v1.Pod) string {
	var list []string
	for _, p := range pods {
		list = append(list, p.Name+" on "+p.Spec.NodeName)
	}
	slices.Sort(list)
	return fmt.Sprint(list)
}

// Here is what a host has to show of the pods that the view puts there, for Leaks.
func (v View) Here(host string) []Pod {
	var pods []Pod
	for _, p := range v.Pods {
		if p.Spec.NodeName != host {
			continue
		}
		pod := Pod{Namespace: p.Namespace, Name: p.Name, Over: p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed}
		for _, c := range p.Spec.Containers {
			pod.Running = append(pod.Running, c.Name)
		}
		pods = append(pods, pod)
	}
	return pods
}

// Stay is one pod's place and life. What nobody may disturb has the same one before and after.
type Stay struct {
	UID, Node string
	Restarts  int32
}

// Stays are the lives of all pods, by NAMESPACE/NAME.
func (v View) Stays() map[string]Stay {
	all := make(map[string]Stay)
	for _, p := range v.Pods {
		s := Stay{UID: string(p.UID), Node: p.Spec.NodeName}
		for _, c := range p.Status.ContainerStatuses {
			s.Restarts += c.RestartCount
		}
		all[p.Namespace+"/"+p.Name] = s
	}
	return all
}

// Moved says which pods are no longer where they were, or were restarted, ended or made meanwhile.
func Moved(before, after map[string]Stay) []string {
	var found []string
	for name, was := range before {
		if is, ok := after[name]; !ok {
			found = append(found, fmt.Sprintf("pod %s is gone, was on %s", name, was.Node))
		} else if is != was {
			found = append(found, fmt.Sprintf("pod %s was %+v, is %+v", name, was, is))
		}
	}
	for name, is := range after {
		if _, ok := before[name]; !ok {
			found = append(found, fmt.Sprintf("pod %s is new on %s", name, is.Node))
		}
	}
	slices.Sort(found)
	return found
}
