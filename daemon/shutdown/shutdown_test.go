package shutdown

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

func pods(priorities ...int32) (list []*v1.Pod) {
	for _, n := range priorities {
		p := &v1.Pod{}
		p.Name, p.Spec.Priority = fmt.Sprint("p", n), &n
		list = append(list, p)
	}
	return list
}

func TestPodsEndInTheOrderOfTheirPriority(t *testing.T) {
	none := &v1.Pod{}
	none.Name = "none"
	for _, test := range []struct {
		name    string
		periods []Period
		pods    []*v1.Pod
		total   time.Duration
		want    string
	}{
		{"off", Split(0, 0), pods(1), 0, ""},
		{"critical pods have the last part", Split(30*time.Second, 10*time.Second), append(pods(2000001000, 1999999999, 2000000000, -5), none), 30 * time.Second,
			"from 0 within 20s: /none /p-5 /p1999999999\nfrom 2000000000 within 10s: /p2000000000 /p2000001000"},
		{"nothing is left for critical pods", Split(30*time.Second, 0), pods(2000000000), 30 * time.Second, "from 2000000000 within 0s: /p2000000000"},
		{"a table; boundaries belong to the upper period", Sorted([]Period{{1000, 120 * time.Second}, {100000, 10 * time.Second}, {10, 60 * time.Second}}),
			pods(9, 10, 999, 1000, 99999, 100000, 2000000000), 190 * time.Second,
			"from 10 within 1m0s: /p10 /p9 /p999\nfrom 1000 within 2m0s: /p1000 /p99999\nfrom 100000 within 10s: /p100000 /p2000000000"},
		{"nobody waits for a period without pods", Sorted([]Period{{0, time.Hour}, {7, time.Second}}), pods(8), time.Hour + time.Second, "from 7 within 1s: /p8"},
	} {
		var lines []string
		for _, g := range Groups(test.periods, test.pods) {
			lines = append(lines, g.String())
		}
		if got := strings.Join(lines, "\n"); got != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, got, test.want)
		}
		if got := Total(test.periods); got != test.total {
			t.Errorf("%s: in all %s, want %s", test.name, got, test.total)
		}
	}
}

func TestOnlyWhatAShutdownEndedComesBack(t *testing.T) {
	pod := func(phase v1.PodPhase, reason, message string, policy v1.RestartPolicy) *v1.Pod {
		p := &v1.Pod{}
		p.Status.Phase, p.Status.Reason, p.Status.Message, p.Spec.RestartPolicy = phase, reason, message, policy
		return p
	}
	for _, test := range []struct {
		pod  *v1.Pod
		want bool
	}{
		{pod(v1.PodFailed, Reason, Message, v1.RestartPolicyAlways), true},
		{pod(v1.PodFailed, Reason, Message, v1.RestartPolicyOnFailure), true},
		{pod(v1.PodFailed, Reason, Message, v1.RestartPolicyNever), false},
		{pod(v1.PodFailed, NotAdmittedReason, "Pod was rejected: "+NotAdmittedMessage, v1.RestartPolicyAlways), true},
		{pod(v1.PodFailed, "Evicted", "low", v1.RestartPolicyAlways), false},
		{pod(v1.PodSucceeded, "", "", v1.RestartPolicyOnFailure), false},
		{pod(v1.PodRunning, Reason, Message, v1.RestartPolicyAlways), false},
	} {
		if got := Over(test.pod); got != test.want {
			t.Errorf("%+v %s: got %t", test.pod.Status, test.pod.Spec.RestartPolicy, got)
		}
	}
}
