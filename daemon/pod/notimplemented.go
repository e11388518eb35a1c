package pod

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// NotImplemented lists the fields that a pod sets and that this version takes
// no notice of, as paths. docs/pods.md says of every field what it does, and a
// test holds the two together: nothing is passed over in silence.
func NotImplemented(p *v1.Pod) []string {
	var u unused
	s := &p.Spec
	for _, list := range []struct {
		name       string
		containers []v1.Container
	}{{"initContainers", s.InitContainers}, {"containers", s.Containers}} {
		for i := range list.containers {
			u.container(&list.containers[i], fmt.Sprintf("spec.%s[%d]", list.name, i))
		}
	}
	for i := range s.Volumes {
		u.volume(&s.Volumes[i], fmt.Sprintf("spec.volumes[%d]", i))
	}
	u.add(s.SchedulingGroup != nil, "spec.schedulingGroup")
	u.add(s.OS != nil && s.OS.Name != v1.Linux, "spec.os")
	u.add(len(s.ResourceClaims) > 0, "spec.resourceClaims")
	return u.fields
}

// unused gathers paths.
type unused struct{ fields []string }

func (u *unused) add(set bool, path string) {
	if set {
		u.fields = append(u.fields, path)
	}
}

func (u *unused) container(c *v1.Container, at string) {
	u.add(len(c.VolumeDevices) > 0, at+".volumeDevices")
	u.add(len(c.Resources.Claims) > 0, at+".resources.claims")
}

// volumeKinds are those that storage/volume makes, as fields of VolumeSource
// and of VolumeProjection.
var volumeKinds = []string{"emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected", "serviceAccountToken"}

func (u *unused) volume(v *v1.Volume, at string) {
	for _, kind := range sources(v.VolumeSource) {
		u.add(!slices.Contains(volumeKinds, kind), at+"."+kind)
	}
	if v.Projected == nil {
		return
	}
	for i, source := range v.Projected.Sources {
		for _, kind := range sources(source) {
			u.add(!slices.Contains(volumeKinds, kind), fmt.Sprintf("%s.projected.sources[%d].%s", at, i, kind))
		}
	}
}

// sources names the pointers that a union of Kubernetes' API sets.
func sources(union any) []string {
	var kinds []string
	v := reflect.ValueOf(union)
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			kinds = append(kinds, name)
		}
	}
	return kinds
}
