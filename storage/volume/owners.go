package volume

import v1 "k8s.io/api/core/v1"

// owners is whom the directories of a volume that Setup makes belong to, as the host counts. The zero value is root.
type owners struct {
	uid, gid int
	fsGroup  bool // gid is the pod's fsGroup, and of what is made in the directory as well
}

// ownersFor are those of a pod whose user namespace has the host's first as its 0.
func ownersFor(pod *v1.Pod, first uint32) owners {
	who := owners{uid: int(first), gid: int(first)}
	if group := fsGroup(pod); group != nil {
		who.gid, who.fsGroup = int(first)+int(*group), true
	}
	return who
}
