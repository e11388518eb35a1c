package cure

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// references are objects that the pod names and that are not there.
var references = []rule{
	says(`\b(configmap|secret) "([^"]+)" not found`, func(a about, m []string) string {
		kind := map[string]string{"configmap": "ConfigMap", "secret": "Secret"}[m[1]]
		return at(a.user(kind, m[2], ""), "declare %s %q in namespace %q, correct the name, or set optional: true", kind, m[2], a.pod.Namespace)
	}),
	says(`couldn't find key (\S+) in (ConfigMap|Secret) [^/]+/([^; ]+)(?:; it has (.+))?`, func(a about, m []string) string {
		return at(a.user(m[2], m[3], m[1]), "name a key that it has, add this one, or set optional: true")
	}),
	says(`volume "([^"]+)" : (?:configmap )?references non-existent (?:secret|config) key`, func(a about, m []string) string {
		v, path := a.volume(m[1])
		return at(path+"."+kind(v)+".items", "name a key that it has, add this one, or set optional: true")
	}),
	says(`serviceaccounts "([^"]+)" not found`, func(a about, m []string) string {
		return at("spec.serviceAccountName", "declare ServiceAccount %q in namespace %q, correct the name, or leave it out", m[1], a.pod.Namespace)
	}),
	says(`Unable to retrieve some image pull secrets \(([^)]+)\)`, func(a about, m []string) string {
		return at("spec.imagePullSecrets", "declare Secret \"%s\" of type kubernetes.io/dockerconfigjson in namespace %q", strings.ReplaceAll(m[1], ", ", `", "`), a.pod.Namespace)
	}),
}

// user is the first field that names an object, and a key of it unless key is
// "": of the container, or of the pod's volumes where there is none.
func (a about) user(kind, name, key string) string {
	if a.spec == nil {
		return a.volumeOf(kind, name)
	}
	for i, from := range a.spec.EnvFrom {
		switch {
		case key != "":
		case kind == "ConfigMap" && from.ConfigMapRef != nil && from.ConfigMapRef.Name == name:
			return a.field(fmt.Sprintf("envFrom[%d].configMapRef", i))
		case kind == "Secret" && from.SecretRef != nil && from.SecretRef.Name == name:
			return a.field(fmt.Sprintf("envFrom[%d].secretRef", i))
		}
	}
	for i, e := range a.spec.Env {
		if ref, its := keyOf(kind, e.ValueFrom); ref == name && (key == "" || its == key) {
			return a.field(fmt.Sprintf("env[%d].valueFrom.%sKeyRef", i, lowerFirst(kind)))
		}
	}
	return ""
}

func keyOf(kind string, from *v1.EnvVarSource) (name, key string) {
	switch {
	case from == nil:
	case kind == "ConfigMap" && from.ConfigMapKeyRef != nil:
		return from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Key
	case kind == "Secret" && from.SecretKeyRef != nil:
		return from.SecretKeyRef.Name, from.SecretKeyRef.Key
	}
	return "", ""
}

// volumeOf is the field of the first volume that is made from an object.
func (a about) volumeOf(kind, name string) string {
	for i, v := range a.pod.Spec.Volumes {
		path := fmt.Sprintf("spec.volumes[%d].", i)
		switch {
		case kind == "ConfigMap" && v.ConfigMap != nil && v.ConfigMap.Name == name:
			return path + "configMap.name"
		case kind == "Secret" && v.Secret != nil && v.Secret.SecretName == name:
			return path + "secret.secretName"
		case v.Projected != nil:
			for j, s := range v.Projected.Sources {
				if kind == "ConfigMap" && s.ConfigMap != nil && s.ConfigMap.Name == name ||
					kind == "Secret" && s.Secret != nil && s.Secret.Name == name {
					return fmt.Sprintf("%sprojected.sources[%d].%s.name", path, j, lowerFirst(kind))
				}
			}
		}
	}
	return ""
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
