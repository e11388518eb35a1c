// Package userns decides which of the host's user and group IDs a pod with
// `hostUsers: false` has (KEP-127): a range of its own, in which the host's ID
// First is 0 in the pod. It only decides; daemon/agent keeps the answers.
package userns

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Unit is what a range's length is a multiple of: what a pod must at least have
// (the kubelet's userNsUnitLength; nobody is 65534).
const Unit = 65536

// The IDs that pods get where /etc/subuid says nothing: those that systemd's
// list of users and groups (UIDS-GIDS) leaves unused. login.defs gives users
// subordinate IDs up to 600100000, systemd-nspawn takes 524288 to 1879048191.
const (
	defaultFirst = 1879048192
	defaultEnd   = 2147352576
)

// Range is the IDs of one pod, users and groups alike.
type Range struct {
	First  uint32 `json:"first"` // the host's ID that is 0 in the pod; never 0
	Length uint32 `json:"length"`
}

func (r Range) String() string {
	return fmt.Sprintf("%d-%d", r.First, uint64(r.First)+uint64(r.Length)-1)
}

// overlaps says whether the two have an ID in common.
func (r Range) overlaps(o Range) bool {
	return uint64(r.First) < uint64(o.First)+uint64(o.Length) && uint64(o.First) < uint64(r.First)+uint64(r.Length)
}

// Pool is the IDs that pods get their ranges from.
type Pool struct {
	First  uint32
	Length uint32
	PerPod uint32 // the length of each range
}

// NewPool is what the host's subordinate IDs (subuid(5), subgid(5)) give the
// user of this name, or the default where neither file names it. It holds the
// kubelet's rules (MakeUserNsManager): one block, the same in both files, and
// never the host's own first IDs.
func NewPool(subuid, subgid []byte, user string, perPod uint32) (Pool, error) {
	if perPod == 0 || perPod%Unit != 0 {
		return Pool{}, fmt.Errorf("%d IDs for each pod: want a multiple of %d", perPod, Unit)
	}
	uids, err := blocks("/etc/subuid", subuid, user)
	if err != nil {
		return Pool{}, err
	}
	gids, err := blocks("/etc/subgid", subgid, user)
	if err != nil {
		return Pool{}, err
	}
	switch {
	case len(uids) == 0 && len(gids) == 0:
		return aligned(Range{defaultFirst, defaultEnd - defaultFirst}, perPod), nil
	case !slices.Equal(uids, gids):
		return Pool{}, fmt.Errorf("/etc/subuid and /etc/subgid give %s different IDs: make them the same", user)
	case len(uids) > 1:
		return Pool{}, fmt.Errorf("/etc/subuid gives %s %d blocks of IDs: make them one", user, len(uids))
	}
	p := aligned(uids[0], perPod)
	if p.Length == 0 {
		return Pool{}, fmt.Errorf("/etc/subuid gives %s the IDs %v: not one pod's %d from a multiple of that number on", user, uids[0], perPod)
	}
	return p, nil
}

// aligned is the part of r that whole ranges fit in. The first IDs are the
// host's own.
func aligned(r Range, perPod uint32) Pool {
	end := uint64(r.First) + uint64(r.Length)
	first := max((uint64(r.First)+uint64(perPod)-1)/uint64(perPod), 1) * uint64(perPod)
	if first+uint64(perPod) > end {
		return Pool{PerPod: perPod}
	}
	return Pool{First: uint32(first), Length: uint32((end - first) / uint64(perPod) * uint64(perPod)), PerPod: perPod}
}

// blocks are a user's lines of subuid(5).
func blocks(file string, text []byte, user string) ([]Range, error) {
	var found []Range
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		f := strings.Split(strings.TrimSpace(line), ":")
		if f[0] != user {
			continue
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("%s:%d: want %s:FIRST:COUNT", file, n, user)
		}
		first, err := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		// 4294967295 is no ID: it stands for none in chown(2).
		if err != nil || err2 != nil || first+count > 1<<32-1 {
			return nil, fmt.Errorf("%s:%d: %s:%s are no IDs below 4294967295", file, n, f[1], f[2])
		}
		found = append(found, Range{uint32(first), uint32(count)})
	}
	return found, nil
}

// Pods is how many pods have room.
func (p Pool) Pods() int {
	if p.PerPod == 0 {
		return 0
	}
	return int(p.Length / p.PerPod)
}

// ErrFull is why a pod gets no range.
var ErrFull = errors.New("could not find an empty slot to allocate a user namespace")

// Next is the lowest range that has no ID in common with any of used, which may
// be of another pool: what pods have they keep when the pool changes.
func (p Pool) Next(used []Range) (Range, error) {
	used = slices.Clone(used)
	slices.SortFunc(used, func(a, b Range) int {
		switch {
		case a.First < b.First:
			return -1
		case a.First > b.First:
			return 1
		}
		return 0
	})
	for i := range uint32(p.Pods()) {
		r := Range{p.First + i*p.PerPod, p.PerPod}
		for len(used) > 0 && uint64(used[0].First)+uint64(used[0].Length) <= uint64(r.First) {
			used = used[1:] // wholly below this one and all that follow
		}
		if !slices.ContainsFunc(used[:min(len(used), 1)], r.overlaps) {
			return r, nil
		}
	}
	return Range{}, fmt.Errorf("%w: all %d are taken", ErrFull, p.Pods())
}
