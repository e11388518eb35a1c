package container

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/daemon/idmap"
)

// Users is the range of the host's users and groups that a pod's user namespace
// has (user_namespaces(7)); the zero value is the host's own namespace.
type Users struct {
	First  uint32 // is 0 in the pod; never the host's 0
	Length uint32
}

var errHostUsers = errors.New("the pod's sandbox has no user namespace, which hostUsers: false asks for")

// own has a process begin in a user namespace of its own, as its root. The
// kernel makes that namespace the owner of the others that it gets with it, so
// the pod's root may do there what root does on a host.
func (u Users) own(attr *syscall.SysProcAttr) {
	if u == (Users{}) {
		return
	}
	ids := []syscall.SysProcIDMap{{HostID: int(u.First), Size: int(u.Length)}}
	attr.Cloneflags |= unix.CLONE_NEWUSER
	attr.UidMappings, attr.GidMappings, attr.GidMappingsEnableSetgroups = ids, ids, true
	attr.Credential = &syscall.Credential{}
}

// LetIn lets the namespace's root, and no other user of the host, pass through
// directories that only root may: OCI runtimes look for a container's root and
// for what they mount as that user. It does nothing for the host's namespace.
func (u Users) LetIn(dirs ...string) error {
	if u == (Users{}) {
		return nil
	}
	for _, dir := range dirs {
		if err := os.Lchown(dir, 0, int(u.First)); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o710); err != nil {
			return err
		}
	}
	return nil
}

// tmpfs is options that give a tmpfs to the namespace's root.
func (u Users) tmpfs() string {
	if u == (Users{}) {
		return ""
	}
	return fmt.Sprintf("uid=%d,gid=%d,", u.First, u.First)
}

func (u Users) mappings() []specs.LinuxIDMapping {
	if u == (Users{}) {
		return nil
	}
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: u.First, Size: u.Length}}
}

// holds says whether a user and its groups are in the namespace.
func (u Users) holds(who specs.User) error {
	if u == (Users{}) {
		return nil
	}
	for _, id := range append([]uint32{who.UID, who.GID}, who.AdditionalGids...) {
		if id >= u.Length {
			return configError("user or group %d is not among the %d of a pod with hostUsers: false", id, u.Length)
		}
	}
	return nil
}

// writeSysctl writes those of the IPC namespace as the user namespace's root
// where the kernel lets nobody else (since Linux 6.10, "ipc: fix sysctl ownership
// in userns"). The thread is thrown away, so its user may change.
func (u Users) writeSysctl(name, value string) error {
	if u == (Users{}) || !isIPCSysctl(name) {
		return writeSysctl(name, value)
	}
	err := writeSysctl(name, value)
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	// The thread's own: unix.Setresuid would change all threads'.
	same := ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(u.First), same); errno != 0 {
		return fmt.Errorf("set sysctl %s: %w", name, os.NewSyscallError("setresuid", errno))
	}
	err = writeSysctl(name, value)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, 0, same); errno != 0 {
		return fmt.Errorf("set sysctl %s: %w", name, os.NewSyscallError("setresuid", errno))
	}
	return err
}

func isIPCSysctl(name string) bool {
	name = strings.ReplaceAll(name, "/", ".")
	return strings.HasPrefix(name, "fs.mqueue.") || slices.Contains(ipcSysctls, name)
}

// checkIDMaps tries each ID-mapped mount, whose failure the OCI runtime tells in
// words that help nobody.
func (cfg Config) checkIDMaps() error {
	var ns *os.File
	for _, m := range cfg.Mounts {
		if !m.IDMap || cfg.Sandbox.UserNS == "" {
			continue
		}
		if ns == nil {
			var err error
			if ns, err = os.Open(cfg.Sandbox.UserNS); err != nil {
				return &Error{CreateContainerError, err}
			}
			defer ns.Close()
		}
		tree, err := idmap.Clone(m.Source, ns, 0)
		if err != nil {
			return &Error{CreateContainerError, fmt.Errorf("mount of %s in a pod with hostUsers: false: %w", m.Destination, err)}
		}
		tree.Close()
	}
	return nil
}
