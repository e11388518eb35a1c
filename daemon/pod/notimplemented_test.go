package pod

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func TestNotImplementedNamesWhatHasNoEffect(t *testing.T) {
	const text = `
spec:
  nodeSelector: {disk: ssd}
  priorityClassName: high
  securityContext: {appArmorProfile: {type: RuntimeDefault}}
  containers:
  - name: app
    env: [{name: A, value: b}, {name: B, valueFrom: {fileKeyRef: {volumeName: v, path: p, key: k}}}]
    securityContext: {appArmorProfile: {type: RuntimeDefault}}
  volumes:
  - {name: ours, emptyDir: {}}
  - {name: claim, persistentVolumeClaim: {claimName: c}}
  - {name: token, projected: {sources: [{secret: {name: s}}, {clusterTrustBundle: {path: t}}]}}
`
	var p v1.Pod
	if err := yaml.UnmarshalStrict([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"spec.volumes[1].persistentVolumeClaim", "spec.volumes[2].projected.sources[1].clusterTrustBundle",
	}
	if got := NotImplemented(&p); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestNotImplementedIsSilentAboutPlainPods(t *testing.T) {
	always, linux := v1.ContainerRestartPolicyAlways, v1.PodOS{Name: v1.Linux}
	p := v1.Pod{Spec: v1.PodSpec{OS: &linux,
		InitContainers: []v1.Container{{Name: "side", RestartPolicy: &always}},
		Containers:     []v1.Container{{Name: "app"}},
		Volumes:        []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{}}}},
	}}
	if got := NotImplemented(&p); len(got) > 0 {
		t.Errorf("got %q, want nothing", got)
	}
}
