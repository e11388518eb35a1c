// Package cure says what to do about what is said of a pod. Shoal keeps
// Kubernetes' words, because people search for them, and puts behind them in
// brackets the field of the pod that is at fault and what to write instead:
//
//	configmap "colors" not found (spec.containers[0].envFrom[0].configMapRef: declare ConfigMap ...)
//
// Nothing here has effects. docs/mistakes.md shows each cure at work.
package cure

import (
	"fmt"
	"regexp"

	v1 "k8s.io/api/core/v1"
)

// Add puts the cure behind what was said of a pod, or of one container of it
// (container may be ""). What has no cure, or has it already, stays as it is.
func Add(p *v1.Pod, container, said string) string {
	cure := For(p, container, said)
	if cure == "" {
		return said
	}
	return said + " (" + cure + ")"
}

// Wrap is Add for an error; errors.Is and errors.As see what err wraps.
func Wrap(p *v1.Pod, container string, err error) error {
	if err == nil || For(p, container, err.Error()) == "" {
		return err
	}
	return &cured{err, Add(p, container, err.Error())}
}

type cured struct {
	err  error
	text string
}

func (c *cured) Error() string { return c.text }
func (c *cured) Unwrap() error { return c.err }

// For is the cure of what was said: the field at fault and what to do. "" when
// none is known.
func For(p *v1.Pod, container, said string) string { return first(rules, find(p, container), said) }

// Output is the cure of a line that a container's program wrote: it knows the
// usual words of shells, the C library and servers. "" when none is known.
func Output(p *v1.Pod, container, line string) string {
	return first(outputs, find(p, container), line)
}

// rule is a text to look for and its cure, made from the text's groups.
type rule struct {
	said *regexp.Regexp
	cure func(about, []string) string
}

func says(pattern string, cure func(about, []string) string) rule {
	return rule{regexp.MustCompile(pattern), cure}
}

func first(list []rule, a about, said string) string {
	for _, r := range list {
		if m := r.said.FindStringSubmatch(said); m != nil {
			if cure := r.cure(a, m); cure != "" {
				return cure
			}
		}
	}
	return ""
}

// rules are tried in their order.
var rules = join(probes, references, commands, images, volumes, security, network)

func join(lists ...[]rule) []rule {
	var all []rule
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// at begins a cure with the field that it is about.
func at(field, format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	if field == "" {
		return text
	}
	return field + ": " + text
}
