// Package bed makes hosts to test Shoal on, from Debian's own packages.
//
// A bed is a private network with hosts on it. A light host is a systemd-nspawn machine with its own systemd as PID 1,
// ready in under a second, on the kernel and at the speed of the machine; where that machine binds its cgroup
// controllers to v1, limits are not enforced in it. A full host is a QEMU machine with its own kernel and cgroup v2.
//
//	b, err := bed.Up(ctx, bed.Config{Hosts: 3})
//	defer b.Down()
//	out, err := b.Host("n1").Run(ctx, "systemctl", "is-system-running")
//
// All of a bed lives in a PID, mount and network namespace of its own, below a supervisor. When the process that called
// Up ends, however it ends, the supervisor kills the namespaces' first process and thereby every process, mount and
// interface of the bed; what is left, files and empty cgroups, it removes. Should the supervisor be killed as well, the
// kernel still ends the bed, and the next Up, Down or Collect on the machine removes the files.
//
// Everything on disk is below the cache directory: /var/cache/shoal-testbed, or $SHOAL_TESTBED_CACHE.
package bed
