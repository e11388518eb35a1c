package config

import (
	"fmt"
	"math"
)

// UserNS is which of the host's user and group IDs pods with hostUsers: false
// get. Those of the user "shoal" in /etc/subuid and /etc/subgid, if it has any.
type UserNS struct {
	// IDsPerPod is how many each pod gets, a multiple of 65536 (the kubelet's
	// userNamespaces.idsPerPod); default 65536.
	IDsPerPod int64 `toml:"ids_per_pod"`
}

// idsUnit is userns.Unit: this package knows no other one for it.
const idsUnit = 65536

func (u *UserNS) setDefaults() {
	if u.IDsPerPod == 0 {
		u.IDsPerPod = idsUnit
	}
}

func (u UserNS) validate(bad func(key, value, want string, args ...any)) {
	if n := u.IDsPerPod; n < 0 || n%idsUnit != 0 || n > math.MaxUint32 {
		bad("userns.ids_per_pod", fmt.Sprint(n), "want a multiple of 65536, below 4294967296")
	}
}
