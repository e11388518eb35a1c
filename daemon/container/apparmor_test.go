package container

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestAppArmorProfileOfAContainer(t *testing.T) {
	name := "local"
	byDefault := &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeRuntimeDefault}
	unconfined := &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeUnconfined}
	local := &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}
	for _, tt := range []struct {
		profile             *v1.AppArmorProfile
		privileged, enabled bool
		want                string
	}{
		{nil, false, true, "shoal-default"},
		{nil, true, true, ""},
		{nil, false, false, ""},
		{byDefault, false, true, "shoal-default"},
		{byDefault, true, true, ""},
		{unconfined, false, true, ""},
		{local, false, true, "local"},
		{local, true, true, "local"},
	} {
		if got := appArmorProfile(tt.profile, tt.privileged, tt.enabled); got != tt.want {
			t.Errorf("%+v: got %q", tt, got)
		}
	}
}

func TestALoadedProfileIsFoundByItsWholeName(t *testing.T) {
	list := "shoal-default-2 (enforce)\n/usr/bin/man (enforce)\nmy profile (complain)\n"
	for name, want := range map[string]bool{"shoal-default": false, "shoal-default-2": true, "my profile": true, "my": false, "": false} {
		if got := listsProfile(list, name); got != want {
			t.Errorf("%q: got %v", name, got)
		}
	}
}
