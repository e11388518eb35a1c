package pod

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	podresource "k8s.io/kubernetes/pkg/api/v1/resource"
	"k8s.io/kubernetes/pkg/fieldpath"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// Objects looks up what a pod's environment refers to.
type Objects interface {
	ConfigMap(namespace, name string) (*v1.ConfigMap, bool)
	Secret(namespace, name string) (*v1.Secret, bool)
}

// Node is what a pod may learn about its host.
type Node struct {
	Name        string
	IPs         []string        // the primary one first
	Allocatable v1.ResourceList // what an unset limit counts as, for resourceFieldRef
}

// EnvFile is the variable key in the file path of one of the pod's volumes, ""
// when the file has none, fs.ErrNotExist when there is no such file.
type EnvFile func(volume, path, key string) (string, error)

// Env is a container's environment, "NAME=value" in the order of declaration:
// envFrom's variables (sorted), then env's, with $(NAME) expanded from those
// before. An error is the kubelet's CreateContainerConfigError.
//
// Source: pkg/kubelet/kubelet_pods.go, makeEnvironmentVariables.
//
// Token is the pod's fencing token, 0 for none: the variable TokenVariable is then
// set to it, whatever the pod says of that name.
func Env(pod *v1.Pod, c *v1.Container, token uint64, node Node, objects Objects, file EnvFile) ([]string, error) {
	e := environment{pod: pod, container: c, node: node, objects: objects, file: file, values: make(map[string]string)}
	for _, from := range c.EnvFrom {
		if err := e.addAll(from); err != nil {
			return nil, err
		}
	}
	if token != 0 {
		e.values[TokenVariable] = strconv.FormatUint(token, 10)
	}
	names := slices.Sorted(maps.Keys(e.values))
	for _, v := range c.Env {
		value, ok, err := e.value(v)
		if err != nil {
			return nil, err
		}
		if !ok || token != 0 && v.Name == TokenVariable {
			continue
		}
		if _, known := e.values[v.Name]; !known {
			names = append(names, v.Name)
		}
		e.values[v.Name] = value
	}
	env := make([]string, 0, len(names))
	for _, name := range names {
		if strings.ContainsRune(e.values[name], 0) {
			return nil, fmt.Errorf("environment variable %s holds a NUL byte, which no process can be given; mount it as a volume instead", name)
		}
		env = append(env, name+"="+e.values[name])
	}
	return env, nil
}

// ExpandArgs replaces $(NAME) in a container's command or args.
func ExpandArgs(args, env []string) []string {
	values := make(map[string]string, len(env))
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		values[name] = value
	}
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = expansion.Expand(a, expansion.MappingFuncFor(values))
	}
	return out
}

// environment gathers one container's variables.
type environment struct {
	pod       *v1.Pod
	container *v1.Container
	node      Node
	objects   Objects
	file      EnvFile
	values    map[string]string
}

func (e environment) addAll(from v1.EnvFromSource) error {
	switch {
	case from.ConfigMapRef != nil:
		cm, ok := e.objects.ConfigMap(e.pod.Namespace, from.ConfigMapRef.Name)
		if !ok {
			return missing("configmap", from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
		}
		for k, v := range cm.Data {
			e.values[from.Prefix+k] = v
		}
	case from.SecretRef != nil:
		s, ok := e.objects.Secret(e.pod.Namespace, from.SecretRef.Name)
		if !ok {
			return missing("secret", from.SecretRef.Name, from.SecretRef.Optional)
		}
		for k, v := range s.Data {
			e.values[from.Prefix+k] = string(v)
		}
	}
	return nil
}

// missing is the apiserver's words for an object that is not there; nil when
// that is allowed.
func missing(kind, name string, optional *bool) error {
	if optional != nil && *optional {
		return nil
	}
	return fmt.Errorf("%s %q not found", kind, name)
}

// value is one variable's value; not ok when it is optional and absent.
func (e environment) value(v v1.EnvVar) (value string, ok bool, err error) {
	from := v.ValueFrom
	switch {
	case v.Value != "" || from == nil:
		return expansion.Expand(v.Value, expansion.MappingFuncFor(e.values)), true, nil
	case from.FieldRef != nil:
		value, err = e.field(from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		name := cmp.Or(from.ResourceFieldRef.ContainerName, e.container.Name)
		value, err = podresource.ExtractResourceValueByContainerNameAndNodeAllocatable(from.ResourceFieldRef, e.pod, name, e.node.Allocatable)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		return e.configMapKey(from.ConfigMapKeyRef)
	case from.SecretKeyRef != nil:
		return e.secretKey(from.SecretKeyRef)
	case from.FileKeyRef != nil:
		return e.fileKey(from.FileKeyRef)
	}
	return "", false, fmt.Errorf("environment variable %s: this source is not supported yet", v.Name)
}

func (e environment) configMapKey(ref *v1.ConfigMapKeySelector) (string, bool, error) {
	cm, ok := e.objects.ConfigMap(e.pod.Namespace, ref.Name)
	if !ok {
		return "", false, missing("configmap", ref.Name, ref.Optional)
	}
	value, ok := cm.Data[ref.Key]
	if !ok && (ref.Optional == nil || !*ref.Optional) {
		return "", false, fmt.Errorf("couldn't find key %v in ConfigMap %v/%v%s", ref.Key, e.pod.Namespace, ref.Name, has(cm.Data))
	}
	return value, ok, nil
}

func (e environment) secretKey(ref *v1.SecretKeySelector) (string, bool, error) {
	s, ok := e.objects.Secret(e.pod.Namespace, ref.Name)
	if !ok {
		return "", false, missing("secret", ref.Name, ref.Optional)
	}
	value, ok := s.Data[ref.Key]
	if !ok && (ref.Optional == nil || !*ref.Optional) {
		return "", false, fmt.Errorf("couldn't find key %v in Secret %v/%v%s", ref.Key, e.pod.Namespace, ref.Name, has(s.Data))
	}
	return string(value), ok, nil
}

// fileKey is a variable that another container of the pod wrote to a file
// (KEP-3721). A file that is missing counts as a key that is, as the field's
// documentation has it; the kubelet fails for it even when it is optional.
func (e environment) fileKey(ref *v1.FileKeySelector) (string, bool, error) {
	optional := ref.Optional != nil && *ref.Optional
	value, err := e.file(ref.VolumeName, ref.Path, ref.Key)
	switch {
	case optional && errors.Is(err, fs.ErrNotExist):
		return "", false, nil
	case err != nil:
		return "", false, err
	case value == "" && !optional:
		return "", false, fmt.Errorf("environment variable key %q not found in file %q", ref.Key, ref.Path)
	}
	return value, value != "", nil
}

// has ends the message about a missing key with those that are there.
func has[V any](data map[string]V) string {
	const most = 10
	keys := slices.Sorted(maps.Keys(data))
	switch {
	case len(keys) == 0:
		return "; it has none"
	case len(keys) > most:
		return fmt.Sprintf("; it has %s and %d more", strings.Join(keys[:most], ", "), len(keys)-most)
	}
	return "; it has " + strings.Join(keys, ", ")
}

// field is a downward API field.
func (e environment) field(path string) (string, error) {
	switch path {
	case "spec.nodeName":
		return e.node.Name, nil
	case "spec.serviceAccountName":
		return e.pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(e.node.IPs), nil
	case "status.hostIPs":
		return strings.Join(e.node.IPs, ","), nil
	case "status.podIP":
		return e.pod.Status.PodIP, nil
	case "status.podIPs":
		ips := make([]string, len(e.pod.Status.PodIPs))
		for i, ip := range e.pod.Status.PodIPs {
			ips[i] = ip.IP
		}
		return strings.Join(ips, ","), nil
	}
	return fieldpath.ExtractFieldPathAsString(e.pod, path)
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
