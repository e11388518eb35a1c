// Package prober probes containers as the kubelet does (pkg/probe): over HTTP,
// TCP and gRPC from the host to the pod's address, and by commands in the
// container. When is daemon/probe's to say.
package prober
