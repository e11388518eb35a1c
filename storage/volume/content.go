package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// payload is the files of a volume by path. Owners are filled in at the end.
type payload map[string]File

// add puts f at name; "a" and "./a" are one file, and the later one has it. A bad name is kept as written for finish
// to refuse.
func (p payload) add(name string, f File) {
	if checkPath(name) == nil {
		name = path.Clean(name)
	}
	p[name] = f
}

// HasContent says whether vol is made of files that Content decides.
func HasContent(vol v1.Volume) bool {
	return vol.ConfigMap != nil || vol.Secret != nil || vol.DownwardAPI != nil || vol.Projected != nil
}

// Content is the files that vol should hold, sorted by path, as the kubelet decides them (pkg/volume/configmap, secret,
// downwardapi, projected), errors in its words. pod must have Kubernetes' defaults. A missing object gives an error for
// which apierrors.IsNotFound holds; a volume or source of another kind gives *NotYet.
func Content(pod *v1.Pod, vol v1.Volume, objs Objects, node NodeInfo) ([]File, error) {
	var p payload
	var err error
	switch {
	case vol.ConfigMap != nil:
		s := vol.ConfigMap
		p, err = fromConfigMap(pod.Namespace, s.Name, keys{s.Items, s.DefaultMode, s.Optional}, objs)
	case vol.Secret != nil:
		s := vol.Secret
		p, err = fromSecret(pod.Namespace, s.SecretName, keys{s.Items, s.DefaultMode, s.Optional}, objs)
	case vol.DownwardAPI != nil:
		p, err = fromPod(pod, vol.DownwardAPI.Items, vol.DownwardAPI.DefaultMode, node)
	case vol.Projected != nil:
		p, err = projected(pod, vol, objs, node)
	default:
		err = unsupported(vol)
	}
	if err != nil {
		return nil, err
	}
	return finish(p, fsGroup(pod))
}

// keys is how a source picks from an object.
type keys struct {
	items    []v1.KeyToPath
	mode     *int32
	optional *bool
}

func (k keys) isOptional() bool { return k.optional != nil && *k.optional }

var errNoMode = errors.New("no defaultMode used, not even the default value for it")

func fromConfigMap(ns, name string, k keys, objs Objects) (payload, error) {
	cm, ok := objs.ConfigMap(ns, name)
	if !ok {
		if !k.isOptional() {
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmap"}, name)
		}
		cm = &v1.ConfigMap{}
	}
	data := maps.Clone(cm.BinaryData)
	if data == nil {
		data = map[string][]byte{}
	}
	for key, text := range cm.Data {
		data[key] = []byte(text)
	}
	return pick(data, k, "configmap references non-existent config key: ")
}

func fromSecret(ns, name string, k keys, objs Objects) (payload, error) {
	secret, ok := objs.Secret(ns, name)
	if !ok {
		if !k.isOptional() {
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secret"}, name)
		}
		secret = &v1.Secret{}
	}
	return pick(secret.Data, k, "references non-existent secret key: ")
}

// pick takes the wanted keys of an object's data: all of them, or the items; missing begins the error for an item
// whose key is not there.
func pick(data map[string][]byte, k keys, missing string) (payload, error) {
	if k.mode == nil {
		return nil, errNoMode
	}
	p := payload{}
	if len(k.items) == 0 {
		for key, b := range data {
			p.add(key, File{Data: b, Mode: perm(*k.mode)})
		}
		return p, nil
	}
	for _, item := range k.items {
		b, ok := data[item.Key]
		switch {
		case ok && item.Mode != nil:
			p.add(item.Path, File{Data: b, Mode: perm(*item.Mode)})
		case ok:
			p.add(item.Path, File{Data: b, Mode: perm(*k.mode)})
		case !k.isOptional():
			return nil, fmt.Errorf("%s%s; it has %s", missing, item.Key, keysOf(data))
		}
	}
	return p, nil
}

// keysOf is the keys of an object, or the first of them, for a message.
func keysOf(data map[string][]byte) string {
	const most = 10
	keys := slices.Sorted(maps.Keys(data))
	switch {
	case len(keys) == 0:
		return "none"
	case len(keys) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(keys[:most], ", "), len(keys)-most)
	}
	return strings.Join(keys, ", ")
}

// projected merges the sources; of two with the same path the later one wins, as in the kubelet.
func projected(pod *v1.Pod, vol v1.Volume, objs Objects, node NodeInfo) (payload, error) {
	mode := vol.Projected.DefaultMode
	if mode == nil {
		return nil, errNoMode
	}
	all := payload{}
	var errs aggregate
	for _, source := range vol.Projected.Sources {
		p, err := projection(pod, vol.Name, source, mode, objs, node)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for name, f := range p {
			all.add(name, f)
		}
	}
	return all, errs.orNil()
}

func projection(pod *v1.Pod, volume string, source v1.VolumeProjection, mode *int32, objs Objects, node NodeInfo) (payload, error) {
	switch {
	case source.ConfigMap != nil:
		s := source.ConfigMap
		return fromConfigMap(pod.Namespace, s.Name, keys{s.Items, mode, s.Optional}, objs)
	case source.Secret != nil:
		s := source.Secret
		return fromSecret(pod.Namespace, s.Name, keys{s.Items, mode, s.Optional}, objs)
	case source.DownwardAPI != nil:
		return fromPod(pod, source.DownwardAPI.Items, mode, node)
	case source.ServiceAccountToken != nil:
		if node.Token == nil {
			return nil, &NotYet{Volume: volume, Kind: "serviceAccountToken"}
		}
		return fromToken(pod, source.ServiceAccountToken, mode, node)
	case source.ClusterTrustBundle != nil:
		return nil, &NotYet{Volume: volume, Kind: "clusterTrustBundle"}
	case source.PodCertificate != nil:
		return nil, &NotYet{Volume: volume, Kind: "podCertificate"}
	}
	return payload{}, nil // Kubernetes accepts a source that sets nothing
}

// perm keeps the permission bits, which is all that Kubernetes' validation lets through.
func perm(mode int32) fs.FileMode { return fs.FileMode(mode) & fs.ModePerm }

// finish checks every path, gives the files their owner and sorts them.
func finish(p payload, group *int64) ([]File, error) {
	files := make([]File, 0, len(p))
	for name, f := range p {
		if err := checkPath(name); err != nil {
			return nil, err
		}
		f.Path = path.Clean(name)
		if group != nil {
			f.GID = int(*group)
			f.Mode |= readableByGroup
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b File) int { return comparePaths(a.Path, b.Path) })
	if err := checkOverlap(files); err != nil {
		return nil, err
	}
	return files, nil
}

// fsGroup is the group that owns the pod's volumes, nil when it names none.
func fsGroup(pod *v1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}
