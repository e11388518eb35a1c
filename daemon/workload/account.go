package workload

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
)

// Where a container finds its token, and what the volume is called (the
// apiserver's ServiceAccount admission plugin).
const (
	tokenMountPath    = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenVolumePrefix = "kube-api-access-"
	tokenSeconds      = 3607 // an hour; 7 more tell these tokens from others
)

// MountToken gives a new pod the volume with its service account's token, as
// the apiserver's ServiceAccount admission plugin does: unless the pod, or else
// its account, says that it wants none. account is nil where there is none of
// that name.
//
// Nothing serves the API in the pod network yet, so there is no certificate to
// check it by: kube-root-ca.crt is optional here, and its ca.crt appears if
// somebody makes that config map.
func MountToken(pod *v1.Pod, account *v1.ServiceAccount) {
	if !automounts(pod, account) {
		return
	}
	name, has := tokenVolume(pod.Spec.Volumes)
	if !has {
		name = tokenVolumePrefix + suffix(pod.UID)
	}
	mount := v1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenMountPath}
	needed := false
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if !mounts(&list[i], tokenMountPath) {
				list[i].VolumeMounts = append(list[i].VolumeMounts, mount)
				needed = true
			}
		}
	}
	if needed && !has {
		pod.Spec.Volumes = append(pod.Spec.Volumes, v1.Volume{Name: name, VolumeSource: v1.VolumeSource{Projected: tokenSources()}})
	}
}

func automounts(pod *v1.Pod, account *v1.ServiceAccount) bool {
	if a := pod.Spec.AutomountServiceAccountToken; a != nil {
		return *a
	}
	if account != nil && account.AutomountServiceAccountToken != nil {
		return *account.AutomountServiceAccountToken
	}
	return true
}

func tokenVolume(volumes []v1.Volume) (name string, has bool) {
	for _, v := range volumes {
		if strings.HasPrefix(v.Name, tokenVolumePrefix) {
			return v.Name, true
		}
	}
	return "", false
}

// suffix is five characters that differ from pod to pod.
func suffix(uid types.UID) string {
	sum := sha256.Sum256([]byte(uid))
	// In digits: SafeEncodeString counts characters, and bytes may make fewer.
	return rand.SafeEncodeString(hex.EncodeToString(sum[:])[:5])
}

func mounts(c *v1.Container, path string) bool {
	for _, m := range c.VolumeMounts {
		if m.MountPath == path {
			return true
		}
	}
	return false
}

func tokenSources() *v1.ProjectedVolumeSource {
	seconds, mode, optional := int64(tokenSeconds), int32(v1.ProjectedVolumeSourceDefaultMode), true
	return &v1.ProjectedVolumeSource{
		DefaultMode: &mode,
		Sources: []v1.VolumeProjection{
			{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
			{ConfigMap: &v1.ConfigMapProjection{
				LocalObjectReference: v1.LocalObjectReference{Name: "kube-root-ca.crt"},
				Items:                []v1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
				Optional:             &optional,
			}},
			{DownwardAPI: &v1.DownwardAPIProjection{Items: []v1.DownwardAPIVolumeFile{
				{Path: "namespace", FieldRef: &v1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}},
			}}},
		},
	}
}

// keepToken carries over to a new declaration what MountToken added when the
// pod was made: it is no part of what people declare, and its absence from
// their files no edit. A pod that was made without it stays without.
func keepToken(next, decided *v1.Pod) {
	name, has := tokenVolume(decided.Spec.Volumes)
	if _, declared := tokenVolume(next.Spec.Volumes); !has || declared {
		return
	}
	for _, v := range decided.Spec.Volumes {
		if v.Name == name {
			next.Spec.Volumes = append(next.Spec.Volumes, *v.DeepCopy())
		}
	}
	keepMounts(next.Spec.InitContainers, decided.Spec.InitContainers, name)
	keepMounts(next.Spec.Containers, decided.Spec.Containers, name)
}

func keepMounts(to, from []v1.Container, volume string) {
	for i := range min(len(to), len(from)) {
		for _, m := range from[i].VolumeMounts {
			if m.Name == volume && to[i].Name == from[i].Name && !mounts(&to[i], m.MountPath) {
				to[i].VolumeMounts = append(to[i].VolumeMounts, m)
			}
		}
	}
}
