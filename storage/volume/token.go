package volume

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/securitycontext"
)

// fromToken is a projected service account token. With an fsGroup, or one user for all containers, nobody else may read
// it (pkg/volume/projected collectData); finish opens it to the group.
func fromToken(pod *v1.Pod, s *v1.ServiceAccountTokenProjection, mode *int32, node NodeInfo) (payload, error) {
	text, err := node.Token(pod, s)
	if err != nil {
		return nil, fmt.Errorf("failed to fetch token: %w", err)
	}
	f := File{Data: []byte(text), Mode: perm(*mode)}
	user := onlyUser(pod)
	if user != nil || fsGroup(pod) != nil {
		f.Mode = 0o600
	}
	if user != nil {
		f.UID = int(*user)
	}
	p := payload{}
	p.add(s.Path, f)
	return p, nil
}

// onlyUser is the user that all of the pod's containers run as, nil when they differ or one names none (pkg/volume/util
// FsUserFrom).
func onlyUser(pod *v1.Pod) *int64 {
	var user *int64
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			own, ok := securitycontext.DetermineEffectiveRunAsUser(pod, &list[i])
			if !ok || user != nil && *user != *own {
				return nil
			}
			user = own
		}
	}
	return user
}
