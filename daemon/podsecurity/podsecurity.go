// Package podsecurity applies Kubernetes' Pod Security Standards, as the labels
// of a namespace ask for them:
//
//	pod-security.kubernetes.io/enforce: baseline          pods that violate it are refused
//	pod-security.kubernetes.io/enforce-version: v1.36     the standard of that release; "latest" unless given
//	pod-security.kubernetes.io/warn, audit                likewise: whoever made the pod, or the log, is told
//
// The checks and their words are upstream's (k8s.io/pod-security-admission);
// this is what its admission plugin does around them. Nothing here has effects.
package podsecurity

import (
	"fmt"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// Verdict is what a namespace's standards say of a pod. Empty texts mean that
// there is nothing to say.
type Verdict struct {
	Refused string // violates PodSecurity "baseline:latest": ...
	Warning string // would violate PodSecurity "restricted:latest": ...
	Audit   string // likewise
}

// privileged is what counts in a namespace without labels, as upstream's
// default configuration has it.
var privileged = api.Policy{
	Enforce: api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()},
	Audit:   api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()},
	Warn:    api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()},
}

// evaluator holds upstream's checks of all releases. It is made when the first
// namespace asks for one.
var evaluator = sync.OnceValues(func() (policy.Evaluator, error) { return policy.NewEvaluator(policy.DefaultChecks(), nil) })

// ValidateLabels says what is wrong with a namespace's labels. Until they are
// mended, a level or version that can't be read counts as the strictest one.
func ValidateLabels(labels map[string]string) field.ErrorList {
	_, errs := api.PolicyToEvaluate(labels, privileged)
	return errs
}

// Applies says whether a namespace with these labels has any say about pods.
func Applies(labels map[string]string) bool {
	p, _ := api.PolicyToEvaluate(labels, privileged)
	return !p.FullyPrivileged()
}

// Pod says whether a pod may be made in a namespace with these labels.
func Pod(labels map[string]string, pod *v1.Pod) (Verdict, error) {
	return evaluate(labels, &pod.ObjectMeta, &pod.Spec, true)
}

// Template says what to think of an object that makes pods, a Deployment, say.
// It is never refused: its pods are. Objects that make none give no verdict.
func Template(labels map[string]string, obj runtime.Object) (Verdict, error) {
	t := template(obj)
	if t == nil {
		return Verdict{}, nil
	}
	return evaluate(labels, &t.ObjectMeta, &t.Spec, false)
}

func template(obj runtime.Object) *v1.PodTemplateSpec {
	switch o := obj.(type) {
	case *v1.PodTemplate:
		return &o.Template
	case *v1.ReplicationController:
		return o.Spec.Template
	case *appsv1.ReplicaSet:
		return &o.Spec.Template
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *appsv1.DaemonSet:
		return &o.Spec.Template
	case *appsv1.StatefulSet:
		return &o.Spec.Template
	case *batchv1.Job:
		return &o.Spec.Template
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template
	}
	return nil
}

// evaluate is upstream's Admission.EvaluatePod: one that is refused gives no
// warning as well.
func evaluate(labels map[string]string, meta *metav1.ObjectMeta, spec *v1.PodSpec, enforce bool) (v Verdict, err error) {
	wanted, _ := api.PolicyToEvaluate(labels, privileged)
	if wanted.FullyPrivileged() {
		return v, nil
	}
	checks, err := evaluator()
	if err != nil {
		return v, fmt.Errorf("pod security standards: %w", err)
	}
	violates := func(words string, lv api.LevelVersion) string {
		result := policy.AggregateCheckResults(checks.EvaluatePod(lv, meta, spec))
		if result.Allowed {
			return ""
		}
		return fmt.Sprintf("%s PodSecurity %q: %s", words, lv.String(), result.ForbiddenDetail())
	}
	if enforce {
		v.Refused = violates("violates", wanted.Enforce)
	}
	v.Audit = violates("would violate", wanted.Audit)
	if v.Refused == "" {
		v.Warning = violates("would violate", wanted.Warn)
	}
	return v, nil
}
