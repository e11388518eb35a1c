package daemon

import (
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/record"
)

// deadlines are the ends of the grace of pods that other nodes delete, by this
// host's clock: theirs may be a day off. Kept for as long as the pods are here.
type deadlines map[types.UID]deadline

type deadline struct {
	grace int64 // seconds, of the deletion that this is of
	at    time.Time
}

// clockSlack is how far a deletion may lie outside of its grace without being
// taken for one by another clock: news takes a moment, and times have whole
// seconds.
const clockSlack = 2 * time.Second

// of is when a pod's grace ends. Where the deletion's time lies within the grace
// from now it counts, else the grace begins when the deletion is seen, as it
// does for the kubelet. A later deletion can shorten it.
func (l *deadlines) of(p *v1.Pod, now time.Time) time.Time {
	var grace int64
	if p.DeletionGracePeriodSeconds != nil {
		grace = *p.DeletionGracePeriodSeconds
	}
	known, had := (*l)[p.UID]
	if had && known.grace == grace {
		return known.at
	}
	latest := now.Add(time.Duration(grace) * time.Second)
	at := p.DeletionTimestamp.Time
	if at.Before(now.Add(-clockSlack)) || at.After(latest.Add(clockSlack)) {
		at = latest
	}
	if had && known.at.Before(at) {
		at = known.at
	}
	if *l == nil {
		*l = make(deadlines)
	}
	(*l)[p.UID] = deadline{grace, at}
	return at
}

// byThisClock is a pod as its node is to end it.
func (d *Daemon) byThisClock(p *v1.Pod) *v1.Pod {
	if p.DeletionTimestamp == nil || d.own(record.Name{Section: record.Decisions, Key: podKey(p).String()}) != nil {
		return p
	}
	at := d.deadlines.of(p, d.Now())
	if at.Equal(p.DeletionTimestamp.Time) {
		return p
	}
	p = p.DeepCopy()
	p.DeletionTimestamp = &metav1.Time{Time: at}
	return p
}
