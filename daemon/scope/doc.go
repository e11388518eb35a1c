// Package scope gives each pod its cgroup: a systemd scope where systemd is
// PID 1, a plain cgroup elsewhere, and none where even that can't be made.
//
// How much a pod and each of its containers may use is decided by pure
// functions, with the kubelet's formulas: [PodResources], [ContainerResources],
// [SliceResources], [OOMScoreAdj]. A [Host], got from [Open], carries it out.
//
// The tree looks the same on every host:
//
//	shoal.slice/
//	  shoal-<namespace>-<pod>-<uid8>.scope/     a Guaranteed pod
//	  shoal-burstable.slice/
//	    shoal-<namespace>-<pod>-<uid8>.scope/   the pod; holds no process itself
//	      init/                                 pause and conmon
//	      <container>/                          made by the OCI runtime
//	  shoal-besteffort.slice/
//	  shoal-exclusive.slice/                      the same again, for exclusive pods
//
// Nothing is remembered between calls: after a restart of the daemon, Start
// and List find what is there.
package scope
