package scope

import (
	"encoding/json"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestWhoHasProcessorsToHimselfHasNoQuota(t *testing.T) {
	v2 := NodeLimits{Controllers: []string{"cpu", "cpuset"}}
	limited := func() *specs.LinuxResources {
		shares, quota, period := uint64(1024), int64(100000), uint64(100000)
		return &specs.LinuxResources{
			CPU:     &specs.LinuxCPU{Shares: &shares, Quota: &quota, Period: &period},
			Unified: map[string]string{"cpu.weight": "39"},
		}
	}
	for _, c := range []struct {
		own  bool
		want string
	}{
		{true, `{"cpu":{"shares":1024,"cpus":"2-3"},"unified":{"cpu.max":"max","cpu.weight":"39"}}`},
		{false, `{"cpu":{"shares":1024,"quota":100000,"period":100000,"cpus":"2-3"},"unified":{"cpu.weight":"39"}}`},
	} {
		r := limited()
		Pin(r, "2-3", c.own, v2)
		if got, err := json.Marshal(r); err != nil || string(got) != c.want {
			t.Errorf("own %v: got %s, %v, want %s", c.own, got, err, c.want)
		}
	}
}
