package config

import (
	"maps"
	"time"

	"github.com/shoal-project/shoal/daemon/nodelife"
	"github.com/shoal-project/shoal/daemon/pressure"
)

// Eviction is when pods go because a host is lost, or runs short. Signals are
// memory.available, nodefs.available, nodefs.inodesFree, imagefs.available,
// imagefs.inodesFree and pid.available.
type Eviction struct {
	// Hard thresholds evict at once, "100Mi" or "10%"; "0%" is none. A signal that
	// is not named keeps its default.
	Hard map[string]string `toml:"hard"`
	// Soft thresholds evict after their grace period; default none.
	Soft            map[string]string `toml:"soft"`
	SoftGracePeriod map[string]string `toml:"soft_grace_period"`
	// MinimumReclaim is how far above its threshold an eviction has to bring a
	// signal; default nothing.
	MinimumReclaim map[string]string `toml:"minimum_reclaim"`
	// MaxPodGracePeriod is the most that a soft threshold leaves a pod to end;
	// default 0.
	MaxPodGracePeriod time.Duration `toml:"max_pod_grace_period"`
	// TransitionPeriod is how long the node says that it is short after it was;
	// default "5m".
	TransitionPeriod time.Duration `toml:"transition_period"`

	Thresholds []pressure.Threshold `toml:"-"` // all of the above

	nodelife.Config
}

// defaultHard is the kubelet's evictionHard
// (pkg/kubelet/apis/config/v1beta1/defaults_linux.go).
var defaultHard = map[string]string{
	"memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%",
	"imagefs.available": "15%", "imagefs.inodesFree": "5%",
}

func (e *Eviction) setDefaults() {
	hard := maps.Clone(defaultHard)
	maps.Copy(hard, e.Hard)
	e.Hard = hard
	if e.TransitionPeriod == 0 {
		e.TransitionPeriod = 5 * time.Minute
	}
}

func (e *Eviction) validate(bad complain) (err error) {
	if e.MaxPodGracePeriod < 0 {
		bad("eviction.max_pod_grace_period", e.MaxPodGracePeriod.String(), `want a duration such as "30s"`)
	}
	if e.TransitionPeriod < 0 {
		bad("eviction.transition_period", e.TransitionPeriod.String(), `want a duration such as "5m"`)
	}
	e.Config.Validate(func(key, got, want string) { bad(key, got, "%s", want) })
	e.Thresholds, err = pressure.Parse(e.Hard, e.Soft, e.SoftGracePeriod, e.MinimumReclaim)
	return err
}
