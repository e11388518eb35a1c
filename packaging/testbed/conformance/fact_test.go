package conformance

import (
	"fmt"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// fact is a line "[POD/]KEY: VALUE" of a section "want"; indented lines below it are its value's lines. KEY is one of
//
//	phase, reason, message, qos, ip, labels    of the pod's status; labels as k=v,...
//	condition TYPE                             its status, and its reason where it has one
//	exists                                     yes or no
//	uid                                        same as at the last "want", or new
//	event REASON                               the message of one such event
//	NAME                                       a container's state: running, waiting REASON, terminated REASON CODE
//	NAME says                                  what it wrote to its termination log, in this run or the last
//	NAME waits                                 the message of its waiting state
//	NAME last                                  how it ended before: REASON CODE
//	NAME user                                  whom it runs as: UID GID GROUPS
//	NAME restarts, ready, started, image, id   of its status
type fact struct{ pod, key, value string }

func parseFacts(text string) []fact {
	var facts []fact
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if more, ok := strings.CutPrefix(line, "  "); ok && len(facts) > 0 {
			last := &facts[len(facts)-1]
			last.value = strings.TrimPrefix(last.value+"\n"+more, "\n")
			continue
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		f := fact{key: key, value: strings.TrimSpace(value)}
		if pod, rest, ok := strings.Cut(key, "/"); ok {
			f.pod, f.key = pod, rest
		}
		facts = append(facts, f)
	}
	return facts
}

// key is the namespace and name of the pod that a fact is about.
func (s *story) key(f fact) string {
	if f.pod != "" {
		return s.namespace + "/" + f.pod
	}
	return s.namespace + "/" + s.pod
}

// holds looks at the watch, whose lock is held, and answers what is the case and whether that is the fact.
func (s *story) holds(f fact) (got string, ok bool) {
	key := s.key(f)
	p := s.watch.pods[key]
	switch {
	case f.key == "exists":
		got = "no"
		if p != nil {
			got = "yes"
		}
		return got, got == f.value
	case strings.HasPrefix(f.key, "event "):
		for _, e := range s.watch.events[s.namespace] {
			if e.Reason == f.key[len("event "):] && e.Namespace+"/"+e.InvolvedObject.Name == key {
				if got = e.Message; matches(got, f.value) {
					return got, true
				}
			}
		}
		return got, false
	case p == nil:
		return "no such pod", false
	case f.key == "uid":
		got = "new"
		if s.uids[key] == string(p.UID) {
			got = "same"
		}
		return got, got == f.value
	}
	got = ofPod(p, f.key)
	return got, matches(got, expand(f.value, p))
}

func ofPod(p *v1.Pod, key string) string {
	switch key {
	case "phase":
		return string(p.Status.Phase)
	case "reason":
		return p.Status.Reason
	case "message":
		return p.Status.Message
	case "qos":
		return string(p.Status.QOSClass)
	case "ip":
		return p.Status.PodIP
	case "labels":
		var list []string
		for k, v := range p.Labels {
			list = append(list, k+"="+v)
		}
		return strings.Join(list, ",")
	}
	if kind, ok := strings.CutPrefix(key, "condition "); ok {
		for _, c := range p.Status.Conditions {
			if string(c.Type) == kind {
				return strings.TrimSpace(string(c.Status) + " " + c.Reason)
			}
		}
		return "no such condition"
	}
	name, what, _ := strings.Cut(key, " ")
	for _, list := range [][]v1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return ofContainer(&list[i], what)
			}
		}
	}
	return "no such container"
}

func ofContainer(c *v1.ContainerStatus, what string) string {
	switch what {
	case "":
		return state(c.State)
	case "says":
		for _, s := range []v1.ContainerState{c.State, c.LastTerminationState} {
			if s.Terminated != nil {
				return strings.TrimSuffix(s.Terminated.Message, "\n")
			}
		}
	case "waits":
		if c.State.Waiting != nil {
			return c.State.Waiting.Message
		}
	case "last":
		return strings.TrimPrefix(state(c.LastTerminationState), "terminated ")
	case "user":
		if c.User != nil && c.User.Linux != nil {
			return fmt.Sprint(c.User.Linux.UID, " ", c.User.Linux.GID, " ", c.User.Linux.SupplementalGroups)
		}
	case "restarts":
		return strconv.Itoa(int(c.RestartCount))
	case "ready":
		return strconv.FormatBool(c.Ready)
	case "started":
		return strconv.FormatBool(c.Started != nil && *c.Started)
	case "image":
		return c.Image
	case "id":
		return c.ImageID
	}
	return ""
}

func state(s v1.ContainerState) string {
	switch {
	case s.Running != nil:
		return "running"
	case s.Terminated != nil:
		return fmt.Sprintf("terminated %s %d", s.Terminated.Reason, s.Terminated.ExitCode)
	case s.Waiting != nil:
		return "waiting " + s.Waiting.Reason
	}
	return ""
}
