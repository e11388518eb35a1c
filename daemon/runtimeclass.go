package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"

	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// runtimeClass is what workload asks for.
func (d *Daemon) runtimeClass(name string) *nodev1.RuntimeClass {
	o, _ := d.view.Get(manifests.Key{Group: workload.KindRuntimeClass.Group, Kind: workload.KindRuntimeClass.Kind, Name: name})
	c, _ := o.(*nodev1.RuntimeClass)
	return c
}

// lacksRuntimeClass says why a pod can't be made with its RuntimeClass.
func lacksRuntimeClass(p *v1.Pod, class func(name string) *nodev1.RuntimeClass) string {
	var of *nodev1.RuntimeClass
	if name := p.Spec.RuntimeClassName; name != nil {
		of = class(*name)
	}
	if err := workload.ApplyRuntimeClass(p.DeepCopy(), of); err != nil {
		return err.Error()
	}
	return ""
}

// refusedByRuntimeClass is lacksRuntimeClass for a pod that a file declares. Only
// making a pod takes the class: what runs may be edited without.
func (d *Daemon) refusedByRuntimeClass(p *v1.Pod, class func(name string) *nodev1.RuntimeClass) string {
	why := lacksRuntimeClass(p, class)
	if why == "" {
		return ""
	}
	if now, ok := d.view.Get(podKey(p)); ok && now.GetDeletionTimestamp() == nil {
		if _, replaced := workload.UpdateInPlace(now.(*v1.Pod), p); replaced == "" {
			return ""
		}
	}
	return why
}

// ociRuntime is the program that a pod's RuntimeClass names; "" for the host's own.
func (d *Daemon) ociRuntime(p *v1.Pod) (string, error) {
	name := p.Spec.RuntimeClassName
	if name == nil {
		return "", nil
	}
	class := d.runtimeClass(*name)
	if class == nil {
		return "", apierrors.NewNotFound(schema.GroupResource{Group: workload.KindRuntimeClass.Group, Resource: "runtimeclasses"}, *name)
	}
	program, err := d.host.handler(class.Handler)
	if err != nil {
		return "", fmt.Errorf("RuntimeClass %q: %w", *name, err)
	}
	return program, nil
}

// handler is the program of a runtime class's handler.
func (h *host) handler(name string) (string, error) {
	oci := name
	if c, ok := h.d.Config.Runtime.Handlers[name]; ok {
		oci = c.OCI
	} else if name != "crun" && name != "runc" {
		return "", fmt.Errorf("no runtime for %q is configured: [runtime.handlers.%s] in shoal.toml would name one", name, name)
	}
	path, err := exec.LookPath(oci)
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("the OCI runtime of handler %q is missing (apt install %s): %w", name, filepath.Base(oci), err)
	}
	if err != nil {
		return "", fmt.Errorf("the OCI runtime of handler %q: %w", name, err)
	}
	if h.runtime.CgroupManager == "disabled" && filepath.Base(path) != "crun" {
		return "", fmt.Errorf("handler %q: %s can't run containers where cgroup v2 alone can't be written", name, path)
	}
	return path, nil
}

// handlers are the ones that pods can be run with now, for the node's status.
func (h *host) handlers() []v1.NodeRuntimeHandler {
	names := append(slices.Collect(maps.Keys(h.d.Config.Runtime.Handlers)), "crun", "runc")
	slices.Sort(names)
	recursive := setsMountsRecursively()
	features := func(oci string) *v1.NodeRuntimeHandlerFeatures {
		users := h.userNamespaces(context.Background(), oci) == nil
		return &v1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: &recursive, UserNamespaces: &users}
	}
	list := []v1.NodeRuntimeHandler{{Features: features("")}} // the host's own
	for _, name := range slices.Compact(names) {
		if oci, err := h.handler(name); err == nil {
			list = append(list, v1.NodeRuntimeHandler{Name: name, Features: features(oci)})
		}
	}
	return list
}
