package workload

import (
	"strings"

	apps "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// Top is the key of the controller at the top of an object's owners: of a pod of
// a Deployment that Deployment's, of an object without a controller its own. All
// that has one top is decided on by one node, so that a controller acts on what
// its own node decided a moment ago.
func Top(objects Objects, key manifests.Key) manifests.Key {
	o, ok := objects.Get(key)
	for range 3 { // Deployment, ReplicaSet, Pod: an owner of itself ends nowhere
		if !ok {
			break
		}
		ref := metav1.GetControllerOf(o)
		if ref == nil {
			break
		}
		kind, known := controllerKind(ref)
		if !known {
			break
		}
		key = manifests.Key{Group: kind.Group, Kind: kind.Kind, Namespace: key.Namespace, Name: ref.Name}
		below := o
		if o, ok = objects.Get(key); !ok {
			key = departed(below, key)
		}
	}
	return key
}

// departed is the top of what a replica set left behind: the Deployment that it
// was named after. The set goes first when a Deployment is deleted, and its pods
// are not to change hands for that.
func departed(below view.Object, owner manifests.Key) manifests.Key {
	hash := below.GetLabels()[apps.DefaultDeploymentUniqueLabelKey]
	name, is := strings.CutSuffix(owner.Name, "-"+hash)
	if owner.GroupKind() != KindReplicaSet || hash == "" || !is {
		return owner
	}
	return manifests.Key{Group: KindDeployment.Group, Kind: KindDeployment.Kind, Namespace: owner.Namespace, Name: name}
}
