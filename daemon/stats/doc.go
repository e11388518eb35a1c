// Package stats measures what pods and this host use: processor time, memory,
// I/O, processes and pressure from cgroups, network traffic from /proc, and
// file systems.
//
//	meter := stats.NewMeter(stats.Config{...})
//	node, err := meter.Node()          // a handful of files of /proc, two statfs
//	sample, err := meter.Sample()      // and each pod's cgroups
//	sample, err := meter.Rates(ctx)    // with processor use per second in it
//	storage := meter.Storage(ctx)      // counts files; may take long
//	summary := stats.Summarize(...)    // in the form of the kubelet's Summary API
//
// Nothing is measured unless somebody asks; two samples are kept to make rates
// of them. What can't be measured here is unknown, which is not zero: see
// [Amount].
package stats
