package workload

import (
	"strconv"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/shoal-project/shoal/manifests"
)

func makeOne(t *testing.T, text string, account *v1.ServiceAccount) (declared, made *v1.Pod) {
	t.Helper()
	objects, problems := manifests.Decode("f", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	declared = objects[0].Value.(*v1.Pod)
	made = declared.DeepCopy()
	made.UID = "0a1b"
	MountToken(made, account)
	return declared, made
}

const two = `{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {initContainers: [{name: i, image: x}], containers: [{name: c, image: x, volumeMounts: [{name: own, mountPath: /own}]}], volumes: [{name: own, emptyDir: {}}]}}`

func TestEveryContainerGetsTheTokenAndAnUnchangedFileChangesNothing(t *testing.T) {
	declared, made := makeOne(t, two, nil)
	if len(made.Spec.Volumes) != 2 || made.Spec.Volumes[1].Name[:16] != "kube-api-access-" || len(made.Spec.Volumes[1].Name) != 21 {
		t.Fatalf("volumes: %+v", made.Spec.Volumes)
	}
	want := v1.VolumeMount{Name: made.Spec.Volumes[1].Name, ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}
	if m := made.Spec.InitContainers[0].VolumeMounts; len(m) != 1 || m[0] != want {
		t.Errorf("the init container mounts %+v", m)
	}
	if m := made.Spec.Containers[0].VolumeMounts; len(m) != 2 || m[1] != want {
		t.Errorf("the container mounts %+v", m)
	}
	canonical := made.DeepCopy()
	manifests.Default(canonical)
	if !equality.Semantic.DeepEqual(made, canonical) {
		t.Error("what was added lacks defaults")
	}
	if errs := manifests.Validate(made); len(errs) > 0 {
		t.Error(errs)
	}
	if updated, why := UpdateInPlace(made, declared); updated != nil || why != "" {
		t.Errorf("the file as it was is an edit: %+v, %q", updated, why)
	}
	edited := declared.DeepCopy()
	edited.Spec.Containers[0].Image = "y"
	updated, why := UpdateInPlace(made, edited)
	if why != "" || updated == nil || len(updated.Spec.Containers[0].VolumeMounts) != 2 || len(updated.Spec.Volumes) != 2 {
		t.Errorf("an edit loses the token: %+v, %q", updated, why)
	}
}

func TestAPodOfAnOlderVersionStaysWithoutToken(t *testing.T) {
	declared, _ := makeOne(t, two, nil)
	if updated, why := UpdateInPlace(declared, declared.DeepCopy()); updated != nil || why != "" {
		t.Errorf("it is changed: %+v, %q", updated, why)
	}
}

func TestThePodAndThenTheAccountSayWhetherATokenIsMounted(t *testing.T) {
	yes, no := true, false
	for _, tt := range []struct {
		pod, account *bool
		want         bool
	}{{nil, nil, true}, {&no, nil, false}, {&yes, &no, true}, {nil, &no, false}, {&no, &yes, false}} {
		p := &v1.Pod{Spec: v1.PodSpec{AutomountServiceAccountToken: tt.pod, Containers: []v1.Container{{Name: "c"}}}}
		MountToken(p, &v1.ServiceAccount{AutomountServiceAccountToken: tt.account})
		if got := len(p.Spec.Volumes) == 1; got != tt.want {
			t.Errorf("%+v: mounted %v", tt, got)
		}
	}
}

func TestAMountOfThePodsOwnTakesThePlaceOfTheToken(t *testing.T) {
	_, made := makeOne(t, `{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: x, volumeMounts: [{name: own, mountPath: /var/run/secrets/kubernetes.io/serviceaccount}]}], volumes: [{name: own, emptyDir: {}}]}}`, nil)
	if len(made.Spec.Volumes) != 1 || len(made.Spec.Containers[0].VolumeMounts) != 1 {
		t.Errorf("got %+v", made.Spec)
	}
}

func TestEachPodsTokenVolumeHasAValidName(t *testing.T) {
	for i := range 1000 {
		p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c"}}}}
		p.UID = types.UID(strconv.Itoa(i))
		MountToken(p, nil)
		if name := p.Spec.Volumes[0].Name; len(validation.IsDNS1123Label(name)) > 0 {
			t.Fatalf("pod %d: %q", i, name)
		}
	}
}
