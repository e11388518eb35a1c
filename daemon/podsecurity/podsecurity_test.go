package podsecurity

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const plain = `{spec: {containers: [{name: c, image: i}]}}`

const plainRestricted = `PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), ` +
	`unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), ` +
	`runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), ` +
	`seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")`

func TestLabelsOfANamespaceDecide(t *testing.T) {
	for name, tt := range map[string]struct {
		labels map[string]string
		pod    string
		want   Verdict
	}{
		"no labels":  {nil, `{spec: {hostNetwork: true, containers: [{name: c}]}}`, Verdict{}},
		"restricted": {map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}, plain, Verdict{Refused: "violates " + plainRestricted}},
		"a pod that keeps to it": {map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
			`{spec: {securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, containers: [{name: c, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}}`, Verdict{}},
		"baseline": {map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}, `{spec: {hostNetwork: true, containers: [{name: c}]}}`,
			Verdict{Refused: `violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`}},
		"an older version": {map[string]string{"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "v1.18"},
			`{spec: {securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, containers: [{name: c, securityContext: {allowPrivilegeEscalation: false}}]}}`, Verdict{}},
		"warn and audit": {map[string]string{"pod-security.kubernetes.io/warn": "restricted", "pod-security.kubernetes.io/audit": "restricted"}, plain,
			Verdict{Warning: "would violate " + plainRestricted, Audit: "would violate " + plainRestricted}},
		"what is refused is not warned of": {map[string]string{"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}, plain,
			Verdict{Refused: "violates " + plainRestricted}},
		"a level that is no level is the strictest": {map[string]string{"pod-security.kubernetes.io/enforce": "strict"}, plain, Verdict{Refused: "violates " + plainRestricted}},
		"user namespaces relax": {map[string]string{"pod-security.kubernetes.io/enforce": "baseline"},
			`{spec: {hostUsers: false, containers: [{name: c, securityContext: {procMount: Unmasked}}]}}`, Verdict{}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &v1.Pod{}
			if err := yaml.UnmarshalStrict([]byte(tt.pod), p); err != nil {
				t.Fatal(err)
			}
			got, err := Pod(tt.labels, p)
			if err != nil || got != tt.want {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

func TestATemplateIsWarnedOfAndNotRefused(t *testing.T) {
	d := &appsv1.Deployment{}
	d.Spec.Template.Spec.Containers = []v1.Container{{Name: "c"}}
	labels := map[string]string{"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
	if got, err := Template(labels, d); err != nil || got != (Verdict{Warning: "would violate " + plainRestricted}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := Template(labels, &v1.ConfigMap{}); err != nil || got != (Verdict{}) {
		t.Errorf("of a ConfigMap: got %+v, %v", got, err)
	}
}

func TestLabelsAreValidated(t *testing.T) {
	errs := ValidateLabels(map[string]string{"pod-security.kubernetes.io/enforce": "strict", "pod-security.kubernetes.io/warn-version": "1.36"})
	if len(errs) != 2 {
		t.Errorf("got %v", errs)
	}
	if Applies(nil) || !Applies(map[string]string{"pod-security.kubernetes.io/warn": "baseline"}) {
		t.Error("Applies is wrong")
	}
}
