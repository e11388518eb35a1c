package container

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
)

// account is one line of passwd(5).
type account struct {
	name     string
	uid, gid uint32
	home     string
}

// user decides who the container runs as, and that user's home. runAsUser and
// runAsGroup beat the image's USER, names are those of the image's own files.
// The primary group is always among the supplementary ones (CVE-2022-36109).
func user(cfg Config, sc *v1.SecurityContext) (specs.User, string, error) {
	if err := verifyNonRoot(cfg, sc); err != nil {
		return specs.User{}, "", err
	}
	name, group, _ := strings.Cut(cfg.Image.User, ":")
	if sc.RunAsUser != nil {
		name, group = strconv.FormatInt(*sc.RunAsUser, 10), ""
	}
	who, err := lookupUser(cfg.Host.Passwd, name)
	if err != nil {
		return specs.User{}, "", err
	}
	if group != "" {
		if who.gid, err = lookupGroup(cfg.Host.Group, group); err != nil {
			return specs.User{}, "", err
		}
	}
	if sc.RunAsGroup != nil {
		who.gid = uint32(*sc.RunAsGroup)
	}
	groups := []uint32{who.gid}
	if mergesGroups(cfg.Pod) && who.name != "" && group == "" {
		groups = append(groups, memberships(cfg.Host.Group, who.name)...)
	}
	if psc := cfg.Pod.Spec.SecurityContext; psc != nil {
		for _, gid := range psc.SupplementalGroups {
			groups = append(groups, uint32(gid))
		}
		if psc.FSGroup != nil {
			groups = append(groups, uint32(*psc.FSGroup))
		}
	}
	slices.Sort(groups)
	return specs.User{UID: who.uid, GID: who.gid, AdditionalGids: slices.Compact(groups)}, who.home, nil
}

// verifyNonRoot is the kubelet's verifyRunAsNonRoot, message for message
// (pkg/kubelet/kuberuntime/security_context_others.go).
func verifyNonRoot(cfg Config, sc *v1.SecurityContext) error {
	if sc.RunAsNonRoot == nil || !*sc.RunAsNonRoot {
		return nil
	}
	where := fmt.Sprintf("(pod: %q, container: %s)",
		fmt.Sprintf("%s_%s(%s)", cfg.Pod.Name, cfg.Pod.Namespace, cfg.Pod.UID), cfg.Container.Name)
	if sc.RunAsUser != nil {
		if *sc.RunAsUser == 0 {
			return configError("container's runAsUser breaks non-root policy %s", where)
		}
		return nil
	}
	name, _, _ := strings.Cut(cfg.Image.User, ":")
	if name == "" {
		name = "0"
	}
	uid, err := strconv.ParseInt(name, 10, 64)
	if err != nil {
		return configError("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", name, where)
	}
	if uid == 0 {
		return configError("container has runAsNonRoot and image will run as root %s", where)
	}
	return nil
}

func mergesGroups(pod *v1.Pod) bool {
	sc := pod.Spec.SecurityContext
	return sc == nil || sc.SupplementalGroupsPolicy == nil || *sc.SupplementalGroupsPolicy != v1.SupplementalGroupsPolicyStrict
}

// lookupUser finds a user by name or number. A number needs no entry: it then
// has group 0 and / as its home.
func lookupUser(passwd []byte, name string) (account, error) {
	if name == "" {
		name = "0"
	}
	uid, err := strconv.ParseUint(name, 10, 32)
	numeric := err == nil
	if numeric && uid > math.MaxInt32 {
		return account{}, configError("user id %d is not between 0 and %d", uid, math.MaxInt32)
	}
	for _, f := range colonFile(passwd, 7) {
		if (numeric && f[2] != name) || (!numeric && f[0] != name) {
			continue
		}
		u, uerr := strconv.ParseUint(f[2], 10, 31)
		g, gerr := strconv.ParseUint(f[3], 10, 31)
		if uerr != nil || gerr != nil {
			continue
		}
		home := f[5]
		if home == "" {
			home = "/"
		}
		return account{f[0], uint32(u), uint32(g), home}, nil
	}
	if !numeric {
		return account{}, &Error{CreateContainerError, fmt.Errorf("unable to find user %s: no matching entries in passwd file", name)}
	}
	return account{uid: uint32(uid), home: "/"}, nil
}

func lookupGroup(group []byte, name string) (uint32, error) {
	if gid, err := strconv.ParseUint(name, 10, 31); err == nil {
		return uint32(gid), nil
	}
	for _, f := range colonFile(group, 4) {
		if gid, err := strconv.ParseUint(f[2], 10, 31); err == nil && f[0] == name {
			return uint32(gid), nil
		}
	}
	return 0, &Error{CreateContainerError, fmt.Errorf("unable to find group %s: no matching entries in group file", name)}
}

// memberships are the groups that name is listed in.
func memberships(group []byte, name string) []uint32 {
	var gids []uint32
	for _, f := range colonFile(group, 4) {
		gid, err := strconv.ParseUint(f[2], 10, 31)
		if err == nil && slices.Contains(strings.Split(f[3], ","), name) {
			gids = append(gids, uint32(gid))
		}
	}
	return gids
}

// colonFile splits passwd(5) and group(5); lines with too few fields, comments
// and lines beyond the scanner's 64 kB are no entries.
func colonFile(b []byte, fields int) [][]string {
	var out [][]string
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		f := strings.Split(strings.TrimSpace(s.Text()), ":")
		if len(f) >= fields && !strings.HasPrefix(f[0], "#") {
			out = append(out, f)
		}
	}
	return out
}
