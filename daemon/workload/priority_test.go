package workload

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
)

func class(name string, value int32, preempts v1.PreemptionPolicy, isDefault bool) *schedulingv1.PriorityClass {
	c := &schedulingv1.PriorityClass{Value: value, GlobalDefault: isDefault}
	c.Name = name
	if preempts != "" {
		c.PreemptionPolicy = &preempts
	}
	return c
}

func TestANewPodHasThePriorityOfItsClass(t *testing.T) {
	classes := []*schedulingv1.PriorityClass{class("high", 1000, v1.PreemptNever, false), class("seven", 7, "", true), class("five", 5, "", true)}
	for _, test := range []struct {
		class, priority, policy string
		want                    string
	}{
		{"", "", "", "5 PreemptLowerPriority"}, // of several defaults the lowest
		{"high", "", "", "1000 Never"},
		{"high", "1000", "Never", "1000 Never"},
		{"seven", "", "", "7 PreemptLowerPriority"},
		{"system-node-critical", "", "", "2000001000 PreemptLowerPriority"},
		{"system-cluster-critical", "", "", "2000000000 PreemptLowerPriority"},
		{"gone", "", "", "no PriorityClass with name gone was found"},
		{"high", "999", "", "the integer value of priority (999) must not be provided in pod spec; priority admission controller computed 1000 from the given PriorityClass name"},
		{"", "1", "", "the integer value of priority (1) must not be provided in pod spec; priority admission controller computed 5 from the given PriorityClass name"},
		{"high", "", "PreemptLowerPriority", "the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority admission controller computed Never from the given PriorityClass name"},
	} {
		p := &v1.Pod{}
		p.Spec.PriorityClassName = test.class
		if test.priority != "" {
			var n int32
			fmt.Sscan(test.priority, &n)
			p.Spec.Priority = &n
		}
		if policy := v1.PreemptionPolicy(test.policy); policy != "" {
			p.Spec.PreemptionPolicy = &policy
		}
		var got string
		if err := Prioritize(p, classes); err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprint(*p.Spec.Priority, " ", *p.Spec.PreemptionPolicy)
		}
		if got != test.want || p.Spec.PriorityClassName != test.class {
			t.Errorf("%+v: got %s, class %q", test, got, p.Spec.PriorityClassName)
		}
	}
	p := &v1.Pod{}
	if err := Prioritize(p, nil); err != nil || *p.Spec.Priority != 0 {
		t.Errorf("without a class or a default: %v, %v", err, p.Spec.Priority)
	}
}

func TestAPriorityStaysWhateverBecomesOfItsClass(t *testing.T) {
	text := strings.Replace(declared, "spec:\n", "spec:\n  priorityClassName: high\n", 1)
	in := input(nil, pod(t, text))
	in.Complete = func(p *v1.Pod) error {
		return Prioritize(p, []*schedulingv1.PriorityClass{class("high", 1000, "", false)})
	}
	was := DeclaredPods(in)[0].Pod
	if was.Spec.Priority == nil || *was.Spec.Priority != 1000 {
		t.Fatalf("got %v", was.Spec.Priority)
	}
	in = input(was, pod(t, text))
	in.Complete = func(p *v1.Pod) error { return errors.New("the class is gone") }
	if got := DeclaredPods(in); len(got) != 0 {
		t.Errorf("nothing was edited: %+v", got)
	}
	older := was.DeepCopy() // of a daemon that filled in nothing
	older.Spec.Priority, older.Spec.PreemptionPolicy = nil, nil
	if got := DeclaredPods(input(older, pod(t, text))); len(got) != 0 {
		t.Errorf("an upgrade replaces what runs: %+v", got)
	}
	got := DeclaredPods(input(was, pod(t, declared)))
	if len(got) != 1 || got[0].Verb != Delete || got[0].Why != "spec.priorityClassName can't be changed in place" {
		t.Errorf("its class was taken away: %+v", got)
	}
	in = input(nil, pod(t, text))
	in.Complete = func(p *v1.Pod) error { return errors.New("the class is gone") }
	if got := DeclaredPods(in); len(got) != 0 {
		t.Errorf("a pod that may not be is made: %+v", got)
	}
}
