package daemon

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAPodGetsItsGraceByItsOwnHostsClock(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	type deletion struct {
		by    time.Duration // the other clock, as seen from here
		grace int64
		seen  time.Duration // when, after the first
		want  time.Duration // the end, after the first
	}
	for name, list := range map[string][]deletion{
		"clocks agree":                      {{0, 30, 0, 30 * time.Second}},
		"a day ahead":                       {{24 * time.Hour, 30, 0, 30 * time.Second}},
		"a day behind":                      {{-24 * time.Hour, 30, 0, 30 * time.Second}},
		"a daemon that restarts amid it":    {{-20 * time.Second, 30, 0, 10 * time.Second}},
		"seen again it is as it was":        {{24 * time.Hour, 30, 0, 30 * time.Second}, {24 * time.Hour, 30, 10 * time.Second, 30 * time.Second}},
		"a second one shortens it":          {{24 * time.Hour, 30, 0, 30 * time.Second}, {24 * time.Hour, 0, 5 * time.Second, 5 * time.Second}},
		"a second one does not lengthen it": {{24 * time.Hour, 5, 0, 5 * time.Second}, {24 * time.Hour, 30, time.Second, 5 * time.Second}},
	} {
		var l deadlines
		for _, del := range list {
			p := &v1.Pod{}
			p.UID, p.DeletionGracePeriodSeconds = "a", &del.grace
			p.DeletionTimestamp = &metav1.Time{Time: now.Add(del.by + time.Duration(del.grace)*time.Second)}
			if got := l.of(p, now.Add(del.seen)).Sub(now); got != del.want {
				t.Errorf("%s: ends after %v, want %v", name, got, del.want)
			}
		}
	}
}
