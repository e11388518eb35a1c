package manifests

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
)

// ValidateEphemeralContainers says why the pod's ephemeral containers can't
// follow those of old: they are only ever added (KEP-277).
func ValidateEphemeralContainers(pod, old *v1.Pod) field.ErrorList {
	_, in, err := internal(pod)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	_, inOld, err := internal(old)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	p, o := in.(*core.Pod), inOld.(*core.Pod)
	if o.ResourceVersion == "" {
		o.ResourceVersion = "1"
	}
	p.ResourceVersion = o.ResourceVersion
	return corevalidation.ValidatePodEphemeralContainersUpdate(p, o, podOptions(p, o))
}
