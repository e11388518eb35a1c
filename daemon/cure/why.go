package cure

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	v1 "k8s.io/api/core/v1"
)

// mostLines, mostEvents and longestLine bound what Why repeats.
const (
	mostLines   = 5
	mostEvents  = 6
	longestLine = 500 // characters of what a container wrote
)

// Why says in a few lines why a pod does not run or is not ready, with what to
// do: its state, what each container that is not well waits for or ended with
// and wrote last, and the warnings about it. output is what containers wrote
// last, by their name, line by line.
func Why(p *v1.Pod, events []v1.Event, output map[string][]string) string {
	w := &answer{pod: p}
	w.heading()
	if p.Status.Phase != v1.PodSucceeded {
		for path, c := range containers(p) {
			if s := status(p, c.Name); s != nil && !Well(s) {
				w.container(path, c.Name, s, output[c.Name])
			}
		}
		w.warnings(events)
	}
	return w.text.String()
}

// Well says whether nothing need be said of a container: it is ready, it is
// done, or it waits only for those before it.
func Well(s *v1.ContainerStatus) bool {
	switch t := s.State.Terminated; {
	case s.Ready || t != nil && t.ExitCode == 0:
		return true
	case s.State.Waiting != nil:
		return s.State.Waiting.Reason == "PodInitializing"
	}
	return false
}

func status(p *v1.Pod, name string) *v1.ContainerStatus {
	for _, list := range [][]v1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// answer is a text in the making.
type answer struct {
	pod  *v1.Pod
	text strings.Builder
	said []string // cures that were given, and texts that hold them
}

// line writes one line. What it repeats may come from a container or a registry.
func (w *answer) line(indent int, format string, args ...any) {
	fmt.Fprintf(&w.text, "%s%s\n", strings.Repeat("  ", indent), plain(fmt.Sprintf(format, args...)))
}

func (w *answer) heading() {
	p := w.pod
	name := p.Namespace + "/" + p.Name
	var unready *v1.PodCondition
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == v1.PodReady && c.Status != v1.ConditionTrue {
			unready = c
		}
	}
	switch phase := p.Status.Phase; {
	case phase == v1.PodSucceeded:
		w.line(0, "%s has done its work and ended.", name)
	case phase == v1.PodFailed:
		w.line(0, "%s has failed%s.", name, because(p.Status.Reason))
	case phase == v1.PodRunning && unready == nil:
		w.line(0, "%s runs and is ready.", name)
	case phase == v1.PodRunning:
		w.line(0, "%s runs and is not ready%s.", name, because(unready.Reason))
	default:
		w.line(0, "%s does not run yet.", name)
	}
	if p.Status.Message != "" {
		w.say(1, p.Status.Message, "")
	}
	for _, c := range p.Status.Conditions {
		if c.Status != v1.ConditionTrue && c.Message != "" && !strings.HasPrefix(c.Message, "containers with ") {
			w.line(1, "%s: %s", c.Type, c.Message)
			w.said = append(w.said, c.Message)
			if c.Type == v1.PodScheduled {
				for _, cure := range Scheduling(p, c.Message) {
					w.cure(1, cure)
				}
			}
		}
	}
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// say writes what was said, and its cure unless that is in it.
func (w *answer) say(indent int, said, container string) {
	w.line(indent, "%s", said)
	w.said = append(w.said, said)
	w.cure(indent, For(w.pod, container, said))
}

// cure writes a cure that was not given yet.
func (w *answer) cure(indent int, cure string) {
	if cure == "" || slices.ContainsFunc(w.said, func(s string) bool { return strings.Contains(s, cure) }) {
		return
	}
	w.said = append(w.said, cure)
	w.line(indent, "-> %s", cure)
}

func (w *answer) container(path, name string, s *v1.ContainerStatus, output []string) {
	w.line(0, "container %s (%s): %s", name, path, state(s))
	if waiting := s.State.Waiting; waiting != nil && waiting.Message != "" {
		w.say(1, waiting.Message, name)
	}
	ended := s.State.Terminated
	if ended == nil {
		ended = s.LastTerminationState.Terminated
	}
	lines := last(output)
	switch {
	case ended == nil:
		w.block("it wrote last:", lines)
		return
	case ended.Reason == "StartError": // its program never ran: what is in the log is the message
		w.line(1, "it ended with exit code %d: %s", ended.ExitCode, ended.Reason)
		w.say(1, ended.Message, name)
		return
	}
	w.line(1, "it ended with exit code %d: %s", ended.ExitCode, ended.Reason)
	message := last(strings.Split(ended.Message, "\n"))
	if !slices.Equal(message, lines) {
		w.block("its termination message:", message)
	}
	w.block("it wrote last:", lines)
	w.cure(1, w.cureOf(name, ended, append(message, lines...)))
}

func (w *answer) block(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	w.line(1, "%s", title)
	for _, l := range lines {
		w.line(2, "%s", shortened(l))
	}
}

// shortened is a line with its beginning and its end, where it is too long for
// people: programs write whole requests, or a megabyte of JSON.
func shortened(line string) string {
	r := []rune(line)
	if len(r) <= longestLine {
		return line
	}
	half := longestLine / 2
	return fmt.Sprintf("%s ... (%d characters) ... %s", string(r[:half]), len(r)-2*half, string(r[len(r)-half:]))
}

// cureOf is the cure of what a program wrote before it ended, else of its exit code.
func (w *answer) cureOf(name string, ended *v1.ContainerStateTerminated, lines []string) string {
	if ended.ExitCode != 0 && ended.Reason != "OOMKilled" {
		for _, l := range slices.Backward(lines) {
			if cure := Output(w.pod, name, l); cure != "" {
				return cure
			}
		}
	}
	return ending(find(w.pod, name), ended)
}

// state is a container's state in a few words.
func state(s *v1.ContainerStatus) string {
	switch {
	case s.State.Waiting != nil:
		return "waiting, " + s.State.Waiting.Reason
	case s.State.Terminated != nil:
		return "ended, " + s.State.Terminated.Reason
	case s.State.Running != nil && s.Started != nil && !*s.Started:
		return "running, its startup probe has not succeeded yet"
	case s.State.Running != nil:
		return "running, not ready"
	}
	return "not made yet"
}

// last is the end of an output, without empty lines.
func last(lines []string) []string {
	var out []string
	for _, l := range lines {
		if l = plain(l); strings.TrimSpace(l) != "" {
			out = append(out, l)
		}
	}
	return out[max(len(out)-mostLines, 0):]
}

// escapes are a terminal's colours, cursor movements and titles (ECMA-48).
var escapes = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)`)

// plain is text without what would move a terminal's cursor or change its
// colours. A carriage return stays to be seen: it is a cause of failures.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return ' '
		case r != '\r' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, escapes.ReplaceAllString(text, ""))
	return strings.ReplaceAll(text, "\r", `\r`)
}

// warnings writes the newest warning of each reason and container that says
// more than was said.
func (w *answer) warnings(events []v1.Event) {
	events = slices.DeleteFunc(slices.Clone(events), func(e v1.Event) bool {
		return e.Type != v1.EventTypeWarning || e.InvolvedObject.Kind != "Pod" || e.InvolvedObject.Name != w.pod.Name || e.InvolvedObject.Namespace != w.pod.Namespace ||
			e.InvolvedObject.UID != "" && e.InvolvedObject.UID != w.pod.UID
	})
	slices.SortStableFunc(events, func(a, b v1.Event) int { return b.LastTimestamp.Time.Compare(a.LastTimestamp.Time) })
	type key struct{ reason, field string }
	seen := map[key]bool{}
	for _, e := range events {
		k := key{e.Reason, e.InvolvedObject.FieldPath}
		if seen[k] || e.Reason == "BackOff" || w.repeats(e.Message) || len(seen) == mostEvents {
			continue
		}
		if len(seen) == 0 {
			w.line(0, "warnings, newest first:")
		}
		seen[k] = true
		w.line(1, "%s%s: %s", e.Reason, times(e.Count), e.Message)
		w.said = append(w.said, e.Message)
		w.cure(1, For(w.pod, containerOf(e.InvolvedObject.FieldPath), strings.TrimPrefix(e.Message, "Error: ")))
	}
}

// containerOf is the name in spec.containers{NAME}, an event's fieldPath.
func containerOf(fieldPath string) string {
	_, name, _ := strings.Cut(fieldPath, "{")
	return strings.TrimSuffix(name, "}")
}

// repeats says whether a message, or what follows its beginning "Error: ", was said.
func (w *answer) repeats(message string) bool {
	message = strings.TrimPrefix(message, "Error: ")
	if _, rest, ok := strings.Cut(message, ": "); ok && strings.HasPrefix(message, "Failed to pull image ") {
		message = rest
	}
	return slices.ContainsFunc(w.said, func(s string) bool { return strings.Contains(s, message) || strings.Contains(message, s) }) ||
		!strings.Contains(message, " ") // a reason alone
}

func times(n int32) string {
	if n < 2 {
		return ""
	}
	return fmt.Sprintf(" (%d times)", n)
}
