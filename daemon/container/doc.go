// Package container runs the containers of a pod: catatonit holds the pod's
// namespaces (the sandbox), conmon supervises each container, and an OCI
// runtime (crun, or runc) starts it.
//
// The package has two halves. [Spec] and what it is made of are pure: a
// [Config] in, an OCI runtime specification or a typed [Error] out.
// [Runtime] and [StartSandbox] carry it out. Neither keeps state in memory:
// all that is known about a container lies in its bundle directory and in
// /proc, so a daemon that starts anew sees what the old one saw.
//
//	sandbox := container.SandboxConfig{Hostname: "web", Dir: podDir}
//	sb, err := container.StartSandbox(ctx, sandbox)
//	err = container.MountShm(sandbox)
//	cfg, err = cfg.Load() // users, devices, profiles: what only the host knows
//	spec, err := container.Spec(cfg)
//	state, err := runtime.Create(ctx, cfg, spec, initCgroup)
//	err = runtime.Start(ctx, cfg.Dir)
//
// A bundle directory holds config.json (the specification), container.json
// (who this is), process.json (pids with their start times), pidfile and
// conmon.pid, ctl, winsz and attach (conmon's control files), starting (made
// when Start was first tried), and at the end exit and oom.
package container
