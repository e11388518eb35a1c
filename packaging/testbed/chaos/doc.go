// Package chaos shows that restarts of shoald are invisible: it kills the daemon at random moments over pods that start,
// stop, crash and get edited, and compares what the host then shows with what the files say.
//
// [Look] reads a host's processes, mounts, cgroups, units, links, neighbours, packet filter and directories; [Leaks]
// compares that with the pods that should run. Neither asks shoald, nor uses its code: names and places are written down
// here a second time.
//
//	go test ./packaging/testbed/chaos                              # 25 kills
//	go test ./packaging/testbed/chaos -run Storm -kills 200        # the long run
//	go test ./packaging/testbed/chaos -run Storm -seed 1234        # a run again, as far as time allows
package chaos
