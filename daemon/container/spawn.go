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

// start starts cmd in a session of its own, in cgroup if there is one.
//
// crun refuses "hybrid" hosts, where cgroup v2 is mounted below v1's, as soon as
// one controller is on v2. There cmd gets a mount namespace in which v2 lies
// where crun looks for it. Mounts and unmounts of the host still reach it.
func start(cmd *exec.Cmd, cgroup *os.File) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if cgroup != nil {
		cmd.SysProcAttr.UseCgroupFD = true
		cmd.SysProcAttr.CgroupFD = int(cgroup.Fd())
	}
	if !hybrid() {
		return cmd.Start()
	}
	return onOwnThread(func() error {
		if cgroup != nil {
			if err := joinV1(cgroup.Name()); err != nil {
				return err
			}
		}
		if err := unifyCgroups(); err != nil {
			return err
		}
		return cmd.Start()
	})
}

// joinV1 moves the calling thread, whose children inherit that, to where the
// cgroup v2 directory's parent, a scope, lies in the hierarchies of cgroup v1:
// clone3(2) knows v2 only, and limits are in v1.
func joinV1(dir string) error {
	scope, ok := strings.CutPrefix(filepath.Dir(dir), cgroupHybrid)
	if !ok {
		return nil
	}
	found, err := filepath.Glob(filepath.Join(cgroupMount, "*", scope, "tasks"))
	for _, tasks := range found {
		err = errors.Join(err, os.WriteFile(tasks, []byte("0"), 0))
	}
	return err
}

func unifyCgroups() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mount namespace: %w", err)
	}
	return errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""),
		unix.Mount(cgroupHybrid, cgroupMount, "", unix.MS_BIND, ""))
}

// hybrid says whether cgroup v2 is mounted below v1's tmpfs.
func hybrid() bool {
	var v1, v2 unix.Statfs_t
	return unix.Statfs(cgroupMount, &v1) == nil && v1.Type == unix.TMPFS_MAGIC &&
		unix.Statfs(cgroupHybrid, &v2) == nil && v2.Type == unix.CGROUP2_SUPER_MAGIC
}
