// Package chaos shows that restarts of shoald are invisible: it kills the daemon at random moments over pods that start,
// stop, crash and get edited, and compares what the host then shows with what the files say.
//
// [Look] reads a host's processes, mounts, cgroups, units, links, neighbours, packet filter and directories; [Leaks]
// compares that with the pods that should run. Neither asks shoald, nor uses its code: names and places are written down
// here a second time.
//
//	go test ./packaging/testbed/chaos                              # 25 kills, and 3 rounds over five hosts
//	go test ./packaging/testbed/chaos -run TestStorm -kills 200    # the long run on one host
//	go test ./packaging/testbed/chaos -run TestStorm -seed 1234    # a run again, as far as time allows
//
// Over several hosts (TestFleetStorm) it goes by rounds. [Draw] plans one from a seed: cuts, one-way cuts and lost packets
// between hosts, daemons that stand still or are killed, hosts without power, and meanwhile edits of files and writes through
// the API on any host. Then all is healed, and the hosts are looked at until nothing is amiss: all hosts' views are the same
// ([Disagreements]), the pods are those that Kubernetes' rules ask for ([View.Amiss]), each host runs just these ([Leaks]),
// and every write that was answered is in force, or one that came later ([History.Lost]). In gentle rounds no pod may move.
// Throughout, a pod that only one host may run notes its token and the time, and no two may write in turns ([Overlaps]).
//
//	go test ./packaging/testbed/chaos -run FleetStorm -for 30m -seed 1234
//
// Light hosts share the machine's clock, so only a shoald that is built with -shoald.clock notices that its clock is set. Packets
// are not delayed: not every kernel has netem.
package chaos
