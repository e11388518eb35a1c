package manifests

import (
	"slices"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	autoscalingvalidation "k8s.io/kubernetes/pkg/apis/autoscaling/validation"
	"k8s.io/kubernetes/pkg/apis/batch"
	batchvalidation "k8s.io/kubernetes/pkg/apis/batch/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
	"k8s.io/kubernetes/pkg/apis/rbac"
	rbacvalidation "k8s.io/kubernetes/pkg/apis/rbac/validation"
	"k8s.io/kubernetes/pkg/apis/storage"
	storagevalidation "k8s.io/kubernetes/pkg/apis/storage/validation"
	volumevalidation "k8s.io/kubernetes/pkg/volume/validation"
)

// The functions here call upstream validation with the options that the kind's
// strategy (k8s.io/kubernetes/pkg/registry/*/*/strategy.go) would pass. The
// strategies themselves link etcd's client and a whole apiserver.

func podOptions(p, old *core.Pod) corevalidation.PodValidationOptions {
	var oldSpec *core.PodSpec
	var oldMeta *metav1.ObjectMeta
	if old != nil {
		oldSpec, oldMeta = &old.Spec, &old.ObjectMeta
	}
	opts := pod.GetValidationOptionsFromPodSpecAndMeta(&p.Spec, oldSpec, &p.ObjectMeta, oldMeta)
	opts.ResourceIsPod = true
	return opts
}

func podCreate(p *core.Pod) field.ErrorList {
	return corevalidation.ValidatePodCreate(p, podOptions(p, nil))
}

// podUpdate allows what a pod's own update and its resize subresource allow
// together (KEP-1287): a file has no subresources.
func podUpdate(p, old *core.Pod) field.ErrorList {
	opts := podOptions(p, old)
	resized := old.DeepCopy()
	copyResources(&resized.Spec, &p.Spec)
	plain := p.DeepCopy()
	copyResources(&plain.Spec, &old.Spec)
	plain.Status = old.Status
	errs := corevalidation.ValidatePodUpdate(plain, old, opts)
	if !apiequality.Semantic.DeepEqual(resized.Spec, old.Spec) {
		errs = append(errs, corevalidation.ValidatePodResize(resized, old, opts)...)
	}
	return errs
}

// copyResources makes the containers of dst, where they have the same place
// and name in src, ask for what they ask for in src.
func copyResources(dst, src *core.PodSpec) {
	dst.Resources = src.Resources.DeepCopy()
	for _, lists := range [][2][]core.Container{{dst.Containers, src.Containers}, {dst.InitContainers, src.InitContainers}} {
		for i := range min(len(lists[0]), len(lists[1])) {
			to, from := &lists[0][i], &lists[1][i]
			if to.Name == from.Name {
				to.Resources = *from.Resources.DeepCopy()
				to.ResizePolicy = slices.Clone(from.ResizePolicy)
			}
		}
	}
}

// serviceUpdate keeps the addresses that were allocated to the service where
// the new text names none, as the apiserver's patchAllocatedValues does.
func serviceUpdate(svc, old *core.Service) field.ErrorList {
	svc = svc.DeepCopy()
	if svc.Spec.Type != core.ServiceTypeExternalName && old.Spec.Type != core.ServiceTypeExternalName {
		if svc.Spec.ClusterIP == "" {
			svc.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(svc.Spec.ClusterIPs) == 0 {
			svc.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	}
	if svc.Spec.HealthCheckNodePort == 0 && svc.Spec.Type == old.Spec.Type && svc.Spec.ExternalTrafficPolicy == old.Spec.ExternalTrafficPolicy {
		svc.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
	return corevalidation.ValidateServiceUpdate(svc, old)
}

func pvCreate(pv *core.PersistentVolume) field.ErrorList {
	return pvErrors(pv, corevalidation.ValidationOptionsForPersistentVolume(pv, nil))
}

func pvUpdate(pv, old *core.PersistentVolume) field.ErrorList {
	opts := corevalidation.ValidationOptionsForPersistentVolume(pv, old)
	return append(pvErrors(pv, opts), corevalidation.ValidatePersistentVolumeUpdate(pv, old, opts)...)
}

func pvErrors(pv *core.PersistentVolume, opts corevalidation.PersistentVolumeSpecValidationOptions) field.ErrorList {
	return append(corevalidation.ValidatePersistentVolume(pv, opts), volumevalidation.ValidatePersistentVolume(pv)...)
}

func pvcCreate(pvc *core.PersistentVolumeClaim) field.ErrorList {
	return corevalidation.ValidatePersistentVolumeClaim(pvc, corevalidation.ValidationOptionsForPersistentVolumeClaim(pvc, nil))
}

func pvcUpdate(pvc, old *core.PersistentVolumeClaim) field.ErrorList {
	return corevalidation.ValidatePersistentVolumeClaimUpdate(pvc, old, corevalidation.ValidationOptionsForPersistentVolumeClaim(pvc, old))
}

func rcCreate(rc *core.ReplicationController) field.ErrorList {
	return corevalidation.ValidateReplicationController(rc, pod.GetValidationOptionsFromPodTemplate(rc.Spec.Template, nil))
}

func rcUpdate(rc, old *core.ReplicationController) field.ErrorList {
	return corevalidation.ValidateReplicationControllerUpdate(rc, old, pod.GetValidationOptionsFromPodTemplate(rc.Spec.Template, old.Spec.Template))
}

func podTemplateCreate(t *core.PodTemplate) field.ErrorList {
	return corevalidation.ValidatePodTemplate(t, pod.GetValidationOptionsFromPodTemplate(&t.Template, nil))
}

func podTemplateUpdate(t, old *core.PodTemplate) field.ErrorList {
	return corevalidation.ValidatePodTemplateUpdate(t, old, pod.GetValidationOptionsFromPodTemplate(&t.Template, &old.Template))
}

func deploymentCreate(d *apps.Deployment) field.ErrorList {
	return appsvalidation.ValidateDeployment(d, pod.GetValidationOptionsFromPodTemplate(&d.Spec.Template, nil))
}

func deploymentUpdate(d, old *apps.Deployment) field.ErrorList {
	return appsvalidation.ValidateDeploymentUpdate(d, old, pod.GetValidationOptionsFromPodTemplate(&d.Spec.Template, &old.Spec.Template))
}

func replicaSetCreate(rs *apps.ReplicaSet) field.ErrorList {
	return appsvalidation.ValidateReplicaSet(rs, pod.GetValidationOptionsFromPodTemplate(&rs.Spec.Template, nil))
}

func replicaSetUpdate(rs, old *apps.ReplicaSet) field.ErrorList {
	return appsvalidation.ValidateReplicaSetUpdate(rs, old, pod.GetValidationOptionsFromPodTemplate(&rs.Spec.Template, &old.Spec.Template))
}

func statefulSetCreate(s *apps.StatefulSet) field.ErrorList {
	return appsvalidation.ValidateStatefulSet(s, pod.GetValidationOptionsFromPodTemplate(&s.Spec.Template, nil))
}

func statefulSetUpdate(s, old *apps.StatefulSet) field.ErrorList {
	return appsvalidation.ValidateStatefulSetUpdate(s, old, pod.GetValidationOptionsFromPodTemplate(&s.Spec.Template, &old.Spec.Template))
}

func daemonSetCreate(ds *apps.DaemonSet) field.ErrorList {
	return appsvalidation.ValidateDaemonSet(ds, pod.GetValidationOptionsFromPodTemplate(&ds.Spec.Template, nil))
}

func daemonSetUpdate(ds, old *apps.DaemonSet) field.ErrorList {
	// The apiserver counts it (pkg/registry/apps/daemonset, PrepareForUpdate), clients can't.
	ds.Spec.TemplateGeneration = old.Spec.TemplateGeneration
	if !apiequality.Semantic.DeepEqual(ds.Spec.Template, old.Spec.Template) {
		ds.Spec.TemplateGeneration++
	}
	opts := pod.GetValidationOptionsFromPodTemplate(&ds.Spec.Template, &old.Spec.Template)
	opts.AllowInvalidLabelValueInSelector = opts.AllowInvalidLabelValueInSelector || metav1validation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)
	return appsvalidation.ValidateDaemonSetUpdate(ds, old, opts)
}

// jobCreate validates a job with the selector and labels that the apiserver
// would have generated (pkg/registry/batch/job, generateSelector): a file has
// none, because they hold the job's UID.
func jobCreate(j *batch.Job) field.ErrorList {
	return batchvalidation.ValidateJob(withSelector(j), batchvalidation.JobValidationOptions{
		PodValidationOptions:  pod.GetValidationOptionsFromPodTemplate(&j.Spec.Template, nil),
		RequirePrefixedLabels: true,
	})
}

func jobUpdate(j, old *batch.Job) field.ErrorList {
	j, old = withSelector(j), withSelector(old)
	opts := batchvalidation.JobValidationOptions{
		PodValidationOptions:  pod.GetValidationOptionsFromPodTemplate(&j.Spec.Template, &old.Spec.Template),
		RequirePrefixedLabels: true,
	}
	idle := old.Spec.Suspend != nil && *old.Spec.Suspend && old.Status.StartTime == nil
	opts.AllowMutableSchedulingDirectives = idle
	opts.AllowInvalidLabelValueInSelector = opts.AllowInvalidLabelValueInSelector || metav1validation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)
	return append(batchvalidation.ValidateJob(j, opts), batchvalidation.ValidateJobUpdate(j, old, opts)...)
}

func withSelector(j *batch.Job) *batch.Job {
	if j.Spec.ManualSelector != nil && *j.Spec.ManualSelector {
		return j
	}
	j = j.DeepCopy()
	if j.UID == "" {
		j.UID = "00000000-0000-0000-0000-000000000000"
	}
	labels := map[string]string{
		batch.LegacyJobNameLabel: j.Name, batch.JobNameLabel: j.Name,
		batch.LegacyControllerUidLabel: string(j.UID), batch.ControllerUidLabel: string(j.UID),
	}
	if j.Spec.Template.Labels == nil {
		j.Spec.Template.Labels = map[string]string{}
	}
	for k, v := range labels {
		if _, ok := j.Spec.Template.Labels[k]; !ok {
			j.Spec.Template.Labels[k] = v
		}
	}
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, ok := j.Spec.Selector.MatchLabels[batch.ControllerUidLabel]; !ok {
		j.Spec.Selector.MatchLabels[batch.ControllerUidLabel] = string(j.UID)
	}
	return j
}

func cronJobCreate(c *batch.CronJob) field.ErrorList {
	return batchvalidation.ValidateCronJobCreate(c, pod.GetValidationOptionsFromPodTemplate(&c.Spec.JobTemplate.Spec.Template, nil))
}

func cronJobUpdate(c, old *batch.CronJob) field.ErrorList {
	return batchvalidation.ValidateCronJobUpdate(c, old, pod.GetValidationOptionsFromPodTemplate(&c.Spec.JobTemplate.Spec.Template, &old.Spec.JobTemplate.Spec.Template))
}

func networkPolicyCreate(np *networking.NetworkPolicy) field.ErrorList {
	return networkingvalidation.ValidateNetworkPolicy(np, networkingvalidation.ValidationOptionsForNetworking(np, nil))
}

func networkPolicyUpdate(np, old *networking.NetworkPolicy) field.ErrorList {
	return networkingvalidation.ValidateNetworkPolicyUpdate(np, old, networkingvalidation.ValidationOptionsForNetworking(np, old))
}

func pdbCreate(pdb *policy.PodDisruptionBudget) field.ErrorList {
	return policyvalidation.ValidatePodDisruptionBudget(pdb, policyvalidation.PodDisruptionBudgetValidationOptions{})
}

func pdbUpdate(pdb, old *policy.PodDisruptionBudget) field.ErrorList {
	return policyvalidation.ValidatePodDisruptionBudget(pdb, policyvalidation.PodDisruptionBudgetValidationOptions{
		AllowInvalidLabelValueInSelector: metav1validation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector),
	})
}

func hpaOptions(hpa *autoscaling.HorizontalPodAutoscaler) autoscalingvalidation.HorizontalPodAutoscalerSpecValidationOptions {
	return autoscalingvalidation.HorizontalPodAutoscalerSpecValidationOptions{
		MinReplicasLowerBound: 1,
		ScaleTargetRefValidationOptions: autoscalingvalidation.CrossVersionObjectReferenceValidationOptions{
			// The only scalable kind of the core group, whose apiVersion has no group.
			AllowEmptyAPIGroup: hpa.Spec.ScaleTargetRef.Kind == "ReplicationController",
		},
		ObjectMetricsValidationOptions: autoscalingvalidation.CrossVersionObjectReferenceValidationOptions{
			AllowEmptyAPIGroup: true,
		},
	}
}

func hpaCreate(hpa *autoscaling.HorizontalPodAutoscaler) field.ErrorList {
	return autoscalingvalidation.ValidateHorizontalPodAutoscaler(hpa, hpaOptions(hpa))
}

func hpaUpdate(hpa, old *autoscaling.HorizontalPodAutoscaler) field.ErrorList {
	return autoscalingvalidation.ValidateHorizontalPodAutoscalerUpdate(hpa, old, hpaOptions(hpa))
}

func clusterRoleCreate(r *rbac.ClusterRole) field.ErrorList {
	return rbacvalidation.ValidateClusterRole(r, rbacvalidation.ClusterRoleValidationOptions{})
}

func clusterRoleUpdate(r, old *rbac.ClusterRole) field.ErrorList {
	return rbacvalidation.ValidateClusterRoleUpdate(r, old, rbacvalidation.ClusterRoleValidationOptions{})
}

func csiCapacityCreate(c *storage.CSIStorageCapacity) field.ErrorList {
	return storagevalidation.ValidateCSIStorageCapacity(c, storagevalidation.CSIStorageCapacityValidateOptions{})
}

func csiCapacityUpdate(c, old *storage.CSIStorageCapacity) field.ErrorList {
	return append(csiCapacityCreate(c), storagevalidation.ValidateCSIStorageCapacityUpdate(c, old)...)
}
