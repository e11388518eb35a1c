// Package pressure decides what gives way when a host runs short: unused
// images, pods that ended long ago, and pods that run, in the kubelet's order.
//
// It only decides. What is short is measured, and what goes is ended, elsewhere.
package pressure
