package workload

import (
	"testing"
	"time"
)

func TestPodsThatFailAreReplacedEverLater(t *testing.T) {
	made := func(ago ...time.Duration) (list []time.Time) {
		for _, d := range ago {
			list = append(list, now.Add(-d))
		}
		return list
	}
	many := make([]time.Duration, 100)
	for i := range many {
		many[i] = time.Second
	}
	for name, tt := range map[string]struct {
		failed []time.Time
		want   time.Duration // from now
	}{
		"one":                      {made(4 * time.Second), 6 * time.Second},
		"three, in any order":      {made(50*time.Second, 4*time.Second, 90*time.Second), 36 * time.Second},
		"a hundred":                {made(many...), 5*time.Minute - time.Second},
		"those of long ago":        {made(time.Second, time.Hour, 2*time.Hour), 9 * time.Second},
		"all of them of long ago ": {made(time.Hour), -time.Hour + 10*time.Second},
	} {
		if got := (Cluster{Now: now}).replaceAt(tt.failed).Sub(now); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
	if !(Cluster{Now: now}).replaceAt(nil).Before(now) {
		t.Error("none failed, and yet there is a wait")
	}
}
