package manifests

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	"k8s.io/kubernetes/pkg/apis/batch"
	"k8s.io/kubernetes/pkg/apis/coordination"
	coordinationvalidation "k8s.io/kubernetes/pkg/apis/coordination/validation"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/discovery"
	discoveryvalidation "k8s.io/kubernetes/pkg/apis/discovery/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	nodeapi "k8s.io/kubernetes/pkg/apis/node"
	nodevalidation "k8s.io/kubernetes/pkg/apis/node/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	"k8s.io/kubernetes/pkg/apis/rbac"
	rbacvalidation "k8s.io/kubernetes/pkg/apis/rbac/validation"
	"k8s.io/kubernetes/pkg/apis/scheduling"
	schedulingvalidation "k8s.io/kubernetes/pkg/apis/scheduling/validation"
	"k8s.io/kubernetes/pkg/apis/storage"
	storagevalidation "k8s.io/kubernetes/pkg/apis/storage/validation"
)

// kind is what the package knows of one kind of object: everything that may
// stand in a file has a line in kinds.
type kind struct {
	version    string // the version in which objects of this kind are handed on
	namespaced bool
	rules      rules
}

// rules are a kind's validation on internal objects, as the Validate and
// ValidateUpdate methods of its strategy in k8s.io/kubernetes/pkg/registry
// call it.
type rules struct {
	create func(obj runtime.Object) field.ErrorList
	update func(obj, old runtime.Object) field.ErrorList
}

func check[T runtime.Object](create func(T) field.ErrorList, update func(obj, old T) field.ErrorList) rules {
	return rules{
		create: func(obj runtime.Object) field.ErrorList { return create(obj.(T)) },
		update: func(obj, old runtime.Object) field.ErrorList { return update(obj.(T), old.(T)) },
	}
}

// checkBoth is for kinds whose update runs the create rules as well.
func checkBoth[T runtime.Object](create func(T) field.ErrorList, update func(obj, old T) field.ErrorList) rules {
	return check(create, func(obj, old T) field.ErrorList {
		return append(create(obj), update(obj, old)...)
	})
}

// checkSame is for kinds whose update has no rules of its own.
func checkSame[T runtime.Object](create func(T) field.ErrorList) rules {
	return check(create, func(obj, _ T) field.ErrorList { return create(obj) })
}

const (
	inNamespace = true
	clusterWide = false
)

var kinds = map[schema.GroupKind]kind{
	{Group: "", Kind: "Pod"}:                   {"v1", inNamespace, check(podCreate, podUpdate)},
	{Group: "", Kind: "ConfigMap"}:             {"v1", inNamespace, check(corevalidation.ValidateConfigMap, corevalidation.ValidateConfigMapUpdate)},
	{Group: "", Kind: "Secret"}:                {"v1", inNamespace, check(corevalidation.ValidateSecret, corevalidation.ValidateSecretUpdate)},
	{Group: "", Kind: "Service"}:               {"v1", inNamespace, check(corevalidation.ValidateServiceCreate, serviceUpdate)},
	{Group: "", Kind: "Endpoints"}:             {"v1", inNamespace, check(corevalidation.ValidateEndpointsCreate, corevalidation.ValidateEndpointsUpdate)},
	{Group: "", Kind: "Namespace"}:             {"v1", clusterWide, checkBoth(corevalidation.ValidateNamespace, corevalidation.ValidateNamespaceUpdate)},
	{Group: "", Kind: "Node"}:                  {"v1", clusterWide, checkBoth(corevalidation.ValidateNode, corevalidation.ValidateNodeUpdate)},
	{Group: "", Kind: "PersistentVolume"}:      {"v1", clusterWide, check(pvCreate, pvUpdate)},
	{Group: "", Kind: "PersistentVolumeClaim"}: {"v1", inNamespace, check(pvcCreate, pvcUpdate)},
	{Group: "", Kind: "ServiceAccount"}:        {"v1", inNamespace, check(corevalidation.ValidateServiceAccount, corevalidation.ValidateServiceAccountUpdate)},
	{Group: "", Kind: "LimitRange"}:            {"v1", inNamespace, checkSame(corevalidation.ValidateLimitRange)},
	{Group: "", Kind: "ResourceQuota"}:         {"v1", inNamespace, check(corevalidation.ValidateResourceQuota, corevalidation.ValidateResourceQuotaUpdate)},
	{Group: "", Kind: "ReplicationController"}: {"v1", inNamespace, check(rcCreate, rcUpdate)},
	{Group: "", Kind: "PodTemplate"}:           {"v1", inNamespace, check(podTemplateCreate, podTemplateUpdate)},

	{Group: apps.GroupName, Kind: "Deployment"}:         {"v1", inNamespace, check(deploymentCreate, deploymentUpdate)},
	{Group: apps.GroupName, Kind: "ReplicaSet"}:         {"v1", inNamespace, check(replicaSetCreate, replicaSetUpdate)},
	{Group: apps.GroupName, Kind: "StatefulSet"}:        {"v1", inNamespace, check(statefulSetCreate, statefulSetUpdate)},
	{Group: apps.GroupName, Kind: "DaemonSet"}:          {"v1", inNamespace, check(daemonSetCreate, daemonSetUpdate)},
	{Group: apps.GroupName, Kind: "ControllerRevision"}: {"v1", inNamespace, check(appsvalidation.ValidateControllerRevisionCreate, appsvalidation.ValidateControllerRevisionUpdate)},

	{Group: batch.GroupName, Kind: "Job"}:     {"v1", inNamespace, check(jobCreate, jobUpdate)},
	{Group: batch.GroupName, Kind: "CronJob"}: {"v1", inNamespace, check(cronJobCreate, cronJobUpdate)},

	{Group: networking.GroupName, Kind: "Ingress"}:       {"v1", inNamespace, check(networkingvalidation.ValidateIngressCreate, networkingvalidation.ValidateIngressUpdate)},
	{Group: networking.GroupName, Kind: "IngressClass"}:  {"v1", clusterWide, check(networkingvalidation.ValidateIngressClass, networkingvalidation.ValidateIngressClassUpdate)},
	{Group: networking.GroupName, Kind: "NetworkPolicy"}: {"v1", inNamespace, check(networkPolicyCreate, networkPolicyUpdate)},
	{Group: networking.GroupName, Kind: "IPAddress"}:     {"v1", clusterWide, checkBoth(networkingvalidation.ValidateIPAddress, networkingvalidation.ValidateIPAddressUpdate)},
	{Group: networking.GroupName, Kind: "ServiceCIDR"}:   {"v1", clusterWide, check(networkingvalidation.ValidateServiceCIDR, networkingvalidation.ValidateServiceCIDRUpdate)},

	{Group: policy.GroupName, Kind: "PodDisruptionBudget"}:          {"v1", inNamespace, check(pdbCreate, pdbUpdate)},
	{Group: autoscaling.GroupName, Kind: "HorizontalPodAutoscaler"}: {"v2", inNamespace, check(hpaCreate, hpaUpdate)},
	{Group: discovery.GroupName, Kind: "EndpointSlice"}:             {"v1", inNamespace, check(discoveryvalidation.ValidateEndpointSliceCreate, discoveryvalidation.ValidateEndpointSliceUpdate)},
	{Group: scheduling.GroupName, Kind: "PriorityClass"}:            {"v1", clusterWide, check(schedulingvalidation.ValidatePriorityClass, schedulingvalidation.ValidatePriorityClassUpdate)},
	{Group: coordination.GroupName, Kind: "Lease"}:                  {"v1", inNamespace, check(coordinationvalidation.ValidateLease, coordinationvalidation.ValidateLeaseUpdate)},
	{Group: nodeapi.GroupName, Kind: "RuntimeClass"}:                {"v1", clusterWide, checkBoth(nodevalidation.ValidateRuntimeClass, nodevalidation.ValidateRuntimeClassUpdate)},

	{Group: rbac.GroupName, Kind: "Role"}:               {"v1", inNamespace, check(rbacvalidation.ValidateRole, rbacvalidation.ValidateRoleUpdate)},
	{Group: rbac.GroupName, Kind: "RoleBinding"}:        {"v1", inNamespace, check(rbacvalidation.ValidateRoleBinding, rbacvalidation.ValidateRoleBindingUpdate)},
	{Group: rbac.GroupName, Kind: "ClusterRole"}:        {"v1", clusterWide, check(clusterRoleCreate, clusterRoleUpdate)},
	{Group: rbac.GroupName, Kind: "ClusterRoleBinding"}: {"v1", clusterWide, check(rbacvalidation.ValidateClusterRoleBinding, rbacvalidation.ValidateClusterRoleBindingUpdate)},

	{Group: storage.GroupName, Kind: "StorageClass"}:          {"v1", clusterWide, checkBoth(storagevalidation.ValidateStorageClass, storagevalidation.ValidateStorageClassUpdate)},
	{Group: storage.GroupName, Kind: "CSIDriver"}:             {"v1", clusterWide, check(storagevalidation.ValidateCSIDriver, storagevalidation.ValidateCSIDriverUpdate)},
	{Group: storage.GroupName, Kind: "CSINode"}:               {"v1", clusterWide, check(storagevalidation.ValidateCSINode, storagevalidation.ValidateCSINodeUpdate)},
	{Group: storage.GroupName, Kind: "CSIStorageCapacity"}:    {"v1", inNamespace, check(csiCapacityCreate, csiCapacityUpdate)},
	{Group: storage.GroupName, Kind: "VolumeAttachment"}:      {"v1", clusterWide, check(storagevalidation.ValidateVolumeAttachment, storagevalidation.ValidateVolumeAttachmentUpdate)},
	{Group: storage.GroupName, Kind: "VolumeAttributesClass"}: {"v1", clusterWide, check(storagevalidation.ValidateVolumeAttributesClass, storagevalidation.ValidateVolumeAttributesClassUpdate)},
}

// Namespaced says whether objects of a kind live in a namespace, and whether
// the kind is known at all. Kubernetes' own kinds that nobody writes into a
// file (Event, Binding, the reviews, webhooks) are not known here.
func Namespaced(gk schema.GroupKind) (namespaced, known bool) {
	k, known := kinds[gk]
	return k.namespaced, known
}
