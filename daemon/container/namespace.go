package container

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// setUpNamespaces enters the sandbox's namespaces on a thread that is thrown
// away afterwards, and sets what lives in them.
func setUpNamespaces(sb Sandbox, cfg SandboxConfig) error {
	if sb.NetNS == "" && sb.IPCNS == "" && len(cfg.Sysctls) == 0 {
		return nil
	}
	if err := checkSysctls(sb, cfg.Sysctls); err != nil {
		return err
	}
	return onOwnThread(func() error {
		for _, path := range []string{sb.NetNS, sb.UTSNS, sb.IPCNS} {
			if path == "" {
				continue
			}
			if err := enter(path); err != nil {
				return err
			}
		}
		if sb.NetNS != "" {
			if err := loopbackUp(); err != nil {
				return err
			}
		}
		if sb.UTSNS != "" {
			if err := unix.Sethostname([]byte(cfg.Hostname)); err != nil {
				return fmt.Errorf("set hostname %q: %w", cfg.Hostname, err)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(cfg.Sysctls)) {
			if err := sb.Users.writeSysctl(name, cfg.Sysctls[name]); err != nil {
				return err
			}
		}
		return nil
	})
}

// onOwnThread runs f on a thread of its own, which ends with it: the runtime
// ends a thread whose goroutine never unlocked it. The first thread can't end
// and gives /proc/self its namespaces, so f never runs there.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			defer runtime.UnlockOSThread() // after another thread has done it
			done <- onOwnThread(f)
			return
		}
		done <- f()
	}()
	return <-done
}

func enter(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, 0); err != nil {
		return &os.PathError{Op: "enter", Path: path, Err: err}
	}
	return nil
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("set up loopback: %w", err)
	}
	return nil
}

// ipcSysctls are those of an IPC namespace, beside fs.mqueue.*
// (kernel.org, admin-guide/sysctl/kernel; Kubernetes' sysctl.namespaces).
var ipcSysctls = []string{"kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni"}

// checkSysctls refuses what would change the host: a sysctl without a
// namespace, or of one that the pod shares with the host.
func checkSysctls(sb Sandbox, sysctls map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(sysctls)) {
		name := strings.ReplaceAll(name, "/", ".")
		ipc := isIPCSysctl(name)
		net := strings.HasPrefix(name, "net.")
		switch {
		case strings.Contains(name, ".."):
			return configError("sysctl %q is not a name", name)
		case net && sb.NetNS == "":
			return configError("sysctl %q not allowed with host net enabled", name)
		case ipc && sb.IPCNS == "":
			return configError("sysctl %q not allowed with host ipc enabled", name)
		case !net && !ipc:
			return configError("unknown sysctl %q: it belongs to no namespace of a pod", name)
		}
	}
	return nil
}

// writeSysctl relies on /proc/sys showing the thread's own namespaces.
// A slash in the name stands for a dot in an interface's name (sysctl.d(5)).
func writeSysctl(name, value string) error {
	swapped := strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '/' {
		swapped = name // the first separator is a slash: written as a path
	}
	err := os.WriteFile(filepath.Join("/proc/sys", swapped), []byte(value), 0)
	if errors.Is(err, unix.EROFS) {
		err = writeProcSys(swapped, value)
	}
	if errors.Is(err, os.ErrNotExist) {
		return configError("sysctl %q is unknown to this kernel", name)
	}
	if err != nil {
		return fmt.Errorf("set sysctl %s=%q: %w", name, value, err)
	}
	return nil
}

// writeProcSys writes below /proc/sys through a procfs that nobody else sees:
// hosts that are containers themselves have the visible one read-only.
func writeProcSys(name, value string) error {
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return os.NewSyscallError("fsconfig", err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return os.NewSyscallError("fsmount", err)
	}
	defer unix.Close(root)
	fd, err := unix.Openat(root, filepath.Join("sys", name), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	file := os.NewFile(uintptr(fd), name)
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
}
