package manifests

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
)

// Annotations of static pods, and of the mirror by which Kubernetes' API shows
// them (pkg/kubelet/types/pod_update.go): where the pod comes from, and a hash of
// what its file says.
const (
	AnnotationConfigSource = "kubernetes.io/config.source"
	AnnotationConfigHash   = "kubernetes.io/config.hash"
)

// StaticPod is a pod of [StaticPods] as it runs and is shown: the kubelet's
// applyDefaults (pkg/kubelet/config/common.go). Its name ends in the node's, it
// is bound to the node, and tolerates all that would evict it. The error says
// what a static pod must not be.
func StaticPod(o Object, node string) (*v1.Pod, error) {
	declared, ok := o.Value.(*v1.Pod)
	if !ok {
		return nil, fmt.Errorf("static pods only: a %s goes into a file in /etc/shoal/manifests", o.Key.Kind)
	}
	p := declared.DeepCopy()
	if p.Spec.ServiceAccountName == metav1.NamespaceDefault {
		p.Spec.ServiceAccountName, p.Spec.DeprecatedServiceAccount = "", "" // defaulting set them
	}
	_, in, err := internal(p)
	if err != nil {
		return nil, err
	}
	if _, what, err := pod.HasAPIObjectReference(in.(*core.Pod)); err != nil {
		return nil, err
	} else if what != "" {
		return nil, fmt.Errorf("static pods may not reference %s: declare the pod in a file in /etc/shoal/manifests", what)
	}
	p.Name += "-" + strings.ToLower(node)
	if problems := apivalidation.NameIsDNSSubdomain(p.Name, false); len(problems) > 0 {
		return nil, fmt.Errorf("its name with the node's, %s: %s", p.Name, strings.Join(problems, "; "))
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "host:%s file:%s %s", node, o.Pos.File, o.Declared))
	hash := hex.EncodeToString(sum[:16])
	if p.Annotations == nil {
		p.Annotations = make(map[string]string)
	}
	p.Annotations[AnnotationConfigSource] = "file"
	p.Annotations[AnnotationConfigHash] = hash
	p.Annotations[v1.MirrorPodAnnotationKey] = hash
	p.Spec.NodeName = node
	p.Spec.Tolerations = append(p.Spec.Tolerations, v1.Toleration{Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute})
	no := false
	p.Spec.AutomountServiceAccountToken = &no // it has no service account
	return p, nil
}
