package daemon

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

var accountKind = schema.GroupKind{Kind: "ServiceAccount"}

// defaultAccount is the service account that every namespace has, whether or
// not somebody declares it.
func defaultAccount(namespace string) manifests.Key {
	return manifests.Key{Kind: "ServiceAccount", Namespace: namespace, Name: "default"}
}

// isImplied says whether an object is there without anybody having declared it:
// its UID follows from its key alone.
func (d *Daemon) isImplied(key manifests.Key, o view.Object) bool {
	return o != nil && key.Kind != "Node" && o.GetUID() == view.UID(key, 0) // a node has such a UID, and says itself that it is there
}

// accounts are the changes of implied service accounts of the namespaces whose
// changes these are. One that is declared is left alone.
func (d *Daemon) accounts(namespaces []view.Change, touched map[string]bool) []view.Change {
	changed := make(map[string]view.Object)
	for _, c := range namespaces {
		changed[c.Key.Name] = c.Object
	}
	var changes []view.Change
	for name := range touched {
		ns, is := changed[name]
		if !is {
			ns, _ = d.view.Get(manifests.Key{Kind: "Namespace", Name: name})
		}
		key := defaultAccount(name)
		if declared, err := d.object(key); err != nil || declared != nil {
			continue
		}
		var account view.Object
		if ns != nil {
			account = d.impliedAccount(key)
		}
		changes = d.change(changes, key, account)
	}
	return changes
}

func (d *Daemon) impliedAccount(key manifests.Key) view.Object {
	a := &v1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}}
	a.Namespace, a.Name, a.UID = key.Namespace, key.Name, view.UID(key, 0)
	a.CreationTimestamp = d.impliedSince()
	return a
}

// account is what workload asks for.
func (d *Daemon) account(namespace, name string) *v1.ServiceAccount {
	o, ok := d.view.Get(manifests.Key{Kind: accountKind.Kind, Namespace: namespace, Name: name})
	if !ok {
		return nil
	}
	a, _ := o.(*v1.ServiceAccount)
	return a
}

// lacksAccount says why a pod can't be made: its service account is not there.
// One that a file declares may be; it waits for its token.
func (d *Daemon) lacksAccount(p *v1.Pod) string {
	name := p.Spec.ServiceAccountName
	if d.account(p.Namespace, name) != nil {
		return ""
	}
	return fmt.Sprintf("error looking up service account %s/%s: serviceaccount %q not found", p.Namespace, name, name)
}

// pullSecrets are the pod's, or its service account's if it has none. Upstream's
// admission copies those into the pod; here the account is asked at each pull, so
// that an edit of it needs no new pods.
func (d *Daemon) pullSecrets(p *v1.Pod) []v1.LocalObjectReference {
	if len(p.Spec.ImagePullSecrets) > 0 {
		return p.Spec.ImagePullSecrets
	}
	if a := d.account(p.Namespace, p.Spec.ServiceAccountName); a != nil {
		return a.ImagePullSecrets
	}
	return nil
}
