package container

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	cgroupMount  = "/sys/fs/cgroup"
	cgroupHybrid = "/sys/fs/cgroup/unified"
)

// start starts cmd in a session of its own, in cgroup if there is one, and with
// a /dev/null of its own if over names a directory, see [ownNull].
//
// crun refuses "hybrid" hosts, where cgroup v2 is mounted below v1's, as soon as
// one controller is on v2. There cmd gets a mount namespace in which v2 lies
// where crun looks for it. Mounts and unmounts of the host still reach it.
func start(cmd *exec.Cmd, cgroup *os.File, over string) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	if cgroup != nil {
		cmd.SysProcAttr.UseCgroupFD = true
		cmd.SysProcAttr.CgroupFD = int(cgroup.Fd())
	}
	return fromHere(cgroup, over, cmd.Start)
}

// fromHere calls fork, which starts a process, where that sees what it has to,
// see start.
func fromHere(cgroup *os.File, over string, fork func() error) error {
	hybrid := hybrid()
	if !hybrid && over == "" {
		return fork()
	}
	return onOwnThread(func() error {
		if hybrid && cgroup != nil {
			if err := joinV1(cgroup.Name(), "0"); err != nil {
				return err
			}
		}
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return err
		}
		if hybrid {
			if err := unix.Mount(cgroupHybrid, cgroupMount, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("show cgroup v2: %w", err)
			}
		}
		if over != "" {
			if err := ownNull(over); err != nil {
				return fmt.Errorf("make a /dev/null: %w", err)
			}
		}
		return fork()
	})
}

// startAwaited is start, with what waits for the process and keeps no thread
// meanwhile. While a thread waits in waitid(2), Go's runtime looks each 20 us
// whether its processor is needed elsewhere: for a command of some milliseconds
// that is most of what running it costs.
func startAwaited(cmd *exec.Cmd) (await func() error, err error) {
	fd := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
	if err := start(cmd, nil, ""); err != nil {
		return nil, err
	}
	if fd < 0 || unix.SetNonblock(fd, true) != nil { // a kernel before 5.2
		return cmd.Wait, nil
	}
	ended := os.NewFile(uintptr(fd), "pidfd") // with a descriptor that does not block, it is polled
	return func() error {
		defer ended.Close()
		if raw, err := ended.SyscallConn(); err == nil {
			_ = raw.Read(func(fd uintptr) bool { // an error leaves the waiting to Wait
				n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
				return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
			})
		}
		return cmd.Wait()
	}, nil
}

// ownNull puts another null device at /dev/null of this mount namespace. crun
// gives the standard streams to the root of a container's user namespace (until
// 1.23.1 also devices, github.com/containers/crun/issues/1845), and binds the
// host's devices into it: with the host's own /dev/null, the container's root
// would own that and might close it to everybody. dir is covered meanwhile.
func ownNull(dir string) error {
	if err := unix.Mount("null", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=700,size=4k"); err != nil {
		return &os.PathError{Op: "mount tmpfs", Path: dir, Err: err}
	}
	null := filepath.Join(dir, "null")
	err := unix.Mknod(null, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
	if err == nil {
		err = unix.Chmod(null, 0o666) // past the umask
	}
	if err == nil {
		err = unix.Mount(null, os.DevNull, "", unix.MS_BIND, "")
	}
	return errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
}

// joinV1 moves a thread, "0" for the calling one, whose children inherit that, to
// where the cgroup v2 directory's parent, a scope, lies in the hierarchies of
// cgroup v1: clone3(2) knows v2 only, and limits are in v1.
func joinV1(dir, thread string) error {
	scope, ok := strings.CutPrefix(filepath.Dir(dir), cgroupHybrid)
	if !ok {
		return nil
	}
	found, err := filepath.Glob(filepath.Join(cgroupMount, "*", scope, "tasks"))
	for _, tasks := range found {
		err = errors.Join(err, os.WriteFile(tasks, []byte(thread), 0))
	}
	return err
}

// hybrid says whether cgroup v2 is mounted below v1's tmpfs.
func hybrid() bool {
	var v1, v2 unix.Statfs_t
	return unix.Statfs(cgroupMount, &v1) == nil && v1.Type == unix.TMPFS_MAGIC &&
		unix.Statfs(cgroupHybrid, &v2) == nil && v2.Type == unix.CGROUP2_SUPER_MAGIC
}
