package config

import (
	"fmt"
	"path/filepath"
	"time"
)

// complain notes that a key's value is not what is wanted.
type complain func(key, value, want string, args ...any)

// Images is how long images stay, and who gives logins for them.
type Images struct {
	// GCHighPercent of the image disk used is when unused images begin to go;
	// default 85.
	GCHighPercent int `toml:"gc_high_percent"`
	// GCLowPercent is what removing them is to bring the disk down to; default 80.
	GCLowPercent int `toml:"gc_low_percent"`
	// MinAge is how long an image stays at least; default "2m".
	MinAge time.Duration `toml:"min_age"`
	// MaxAge is after how long an unused image goes however empty the disk is;
	// default: never.
	MaxAge time.Duration `toml:"max_age"`
	// CredentialProviders is a kubelet's CredentialProviderConfig; default: none.
	CredentialProviders string `toml:"credential_providers"`
	// CredentialProviderDir holds the programs that it names; default
	// "/usr/libexec/shoal/credential-providers".
	CredentialProviderDir string `toml:"credential_provider_dir"`
}

// The kubelet's defaults: imageGCHighThresholdPercent, imageGCLowThresholdPercent
// and imageMinimumGCAge.
func (i *Images) setDefaults() {
	if i.GCHighPercent == 0 {
		i.GCHighPercent = 85
	}
	if i.GCLowPercent == 0 {
		i.GCLowPercent = 80
	}
	if i.MinAge == 0 {
		i.MinAge = 2 * time.Minute
	}
	if i.CredentialProviderDir == "" {
		i.CredentialProviderDir = "/usr/libexec/shoal/credential-providers"
	}
}

func (i *Images) validate(bad complain) {
	if i.GCHighPercent < 1 || i.GCHighPercent > 100 {
		bad("images.gc_high_percent", fmt.Sprint(i.GCHighPercent), "want a percentage from 1 to 100; 100 removes no image for want of space")
	}
	if i.GCLowPercent < 1 || i.GCLowPercent >= i.GCHighPercent {
		bad("images.gc_low_percent", fmt.Sprint(i.GCLowPercent), "want a percentage from 1 to less than gc_high_percent, which is %d", i.GCHighPercent)
	}
	if i.MinAge < 0 {
		bad("images.min_age", i.MinAge.String(), `want a duration such as "2m"`)
	}
	if i.MaxAge < 0 || i.MaxAge > 0 && i.MaxAge <= i.MinAge {
		bad("images.max_age", i.MaxAge.String(), "want a duration longer than min_age, which is %s", i.MinAge)
	}
	for key, path := range map[string]string{
		"images.credential_providers": i.CredentialProviders, "images.credential_provider_dir": i.CredentialProviderDir,
	} {
		if path != "" && !filepath.IsAbs(path) {
			bad(key, path, "want an absolute path")
		}
	}
}

// Pods is what becomes of pods that ended.
type Pods struct {
	// EndedThreshold is how many pods of controllers that ended are kept; default
	// 12500, kube-controller-manager's --terminated-pod-gc-threshold. Negative:
	// all.
	EndedThreshold int `toml:"ended_threshold"`
}

func (p *Pods) setDefaults() {
	if p.EndedThreshold == 0 {
		p.EndedThreshold = 12500
	}
}

func (p *Pods) validate(complain) {}
