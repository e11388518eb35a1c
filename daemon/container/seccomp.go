package container

import (
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
)

// seccompProfile is the profile a container asks for: its own, else its
// pod's, else the daemon's default.
func seccompProfile(cfg Config) v1.SeccompProfile {
	if sc := cfg.Container.SecurityContext; sc != nil && sc.SeccompProfile != nil {
		return *sc.SeccompProfile
	}
	if sc := cfg.Pod.Spec.SecurityContext; sc != nil && sc.SeccompProfile != nil {
		return *sc.SeccompProfile
	}
	if cfg.SeccompDefault {
		return v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault}
	}
	return v1.SeccompProfile{Type: v1.SeccompProfileTypeUnconfined}
}

// filter turns the profile into the runtime's form. The default one depends
// on the capabilities in spec. Privileged containers have none, as in
// containerd and CRI-O.
func filter(cfg Config, sc *v1.SecurityContext, spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	if privileged(sc) {
		return nil, nil
	}
	profile := seccompProfile(cfg)
	switch profile.Type {
	case v1.SeccompProfileTypeUnconfined:
		return nil, nil
	case v1.SeccompProfileTypeRuntimeDefault:
		return seccomp.GetDefaultProfile(spec)
	case v1.SeccompProfileTypeLocalhost:
		f, err := seccomp.LoadProfile(string(cfg.Host.SeccompProfile), spec)
		if err != nil {
			return nil, configError("seccomp profile %s: %w", *profile.LocalhostProfile, err)
		}
		return f, nil
	}
	return nil, configError("unknown seccomp profile type %q", profile.Type)
}
