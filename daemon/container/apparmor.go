package container

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"

	v1 "k8s.io/api/core/v1"
)

// defaultProfile is embedded text, and not github.com/moby/profiles/apparmor:
// that links text/template, which keeps 10 MB of otherwise dead code alive.
//
//go:embed shoal-default.apparmor
var defaultProfile []byte

// appArmorProfiles lists what the kernel has loaded, "NAME (MODE)" a line.
const appArmorProfiles = "/sys/kernel/security/apparmor/profiles"

// defaultAppArmor is the profile of containers that name none, on a host that
// enforces profiles: Docker's and containerd's, under a name of our own.
const defaultAppArmor = "shoal-default"

// AppArmorEnabled says whether the kernel enforces profiles and one can be
// loaded, as containerd asks (pkg/apparmor.HostSupports).
func AppArmorEnabled() bool {
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if err != nil || !strings.HasPrefix(string(enabled), "Y") {
		return false
	}
	if _, err := os.Stat(appArmorProfiles); err != nil {
		return false
	}
	_, err = exec.LookPath("apparmor_parser")
	return err == nil
}

// appArmorProfile names the profile to run under, "" for none: of containers
// that name no other the default one, where the host enforces any, but for
// privileged ones (containerd's generateApparmorSpecOpts).
func appArmorProfile(profile *v1.AppArmorProfile, privileged, enabled bool) string {
	switch {
	case profile == nil || profile.Type == v1.AppArmorProfileTypeRuntimeDefault:
		if privileged || !enabled {
			return ""
		}
		return defaultAppArmor
	case profile.Type == v1.AppArmorProfileTypeLocalhost && profile.LocalhostProfile != nil:
		return *profile.LocalhostProfile
	}
	return ""
}

// loading has the default profile loaded by one container at a time.
var loading sync.Mutex

// ensureAppArmor makes sure that a profile is in the kernel: the default one is
// loaded, another must have been by the host's administrator.
func ensureAppArmor(name string) error {
	if name == "" {
		return nil
	}
	loading.Lock()
	defer loading.Unlock()
	list, err := os.ReadFile(appArmorProfiles)
	switch {
	case err != nil:
		return fmt.Errorf("Cannot enforce AppArmor: %w", err)
	case listsProfile(string(list), name):
		return nil
	case name != defaultAppArmor:
		return fmt.Errorf("Cannot enforce AppArmor: profile %q is not loaded: load it with apparmor_parser, it is looked for again", name)
	}
	cmd := exec.Command("apparmor_parser", "--skip-cache", "--replace")
	cmd.Stdin = bytes.NewReader(defaultProfile)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("Cannot enforce AppArmor: profile %q can't be loaded: apparmor_parser: %w: %s", name, err, clean(string(said)))
	}
	return nil
}

// listsProfile looks for a profile in the kernel's list. The mode in brackets
// ends the line, and a name may have spaces.
func listsProfile(list, name string) bool {
	return slices.ContainsFunc(strings.Split(list, "\n"), func(line string) bool {
		at := strings.LastIndex(line, " (")
		return at > 0 && line[:at] == name
	})
}
