package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// SandboxConfig is the pod's share of what its containers have in common.
type SandboxConfig struct {
	Hostname              string // of the pod's own UTS namespace
	HostNetwork           bool   // the host's network and UTS namespaces
	HostIPC               bool
	HostPID               bool
	ShareProcessNamespace bool              // one PID namespace, in which the pause process is init
	Sysctls               map[string]string // "net.core.somaxconn": "1024"; namespaced ones only
	ShmSize               int64             // bytes of /dev/shm; 0: 64 MiB, as everywhere
	Dir                   string            // /run/shoal/pods/UID; made if missing
	Users                 Users             // of the pod's own user namespace; zero: the host's
	Pause                 string            // catatonit; empty: /usr/bin/catatonit
}

// Sandbox is a pod's pause process and the namespaces it holds. A namespace
// that is the host's has no path.
type Sandbox struct {
	PID       int
	StartTime uint64 // clock ticks since boot (proc_pid_stat(5)): tells a reused pid
	Hostname  string // empty: the host's
	NetNS     string // /proc/PID/ns/net
	IPCNS     string
	UTSNS     string
	PIDNS     string
	Shm       string // the pod's /dev/shm on the host
	UserNS    string `json:",omitempty"` // that owns the pod's other namespaces
	Users     Users  `json:",omitzero"`  // its IDs
}

// sandboxEnv marks a pause process with the directory it belongs to. It is set
// by execve itself, and until then the process holds Dir's lock: there is no
// instant at which a daemon may die and leave a process that can't be placed.
const sandboxEnv = "SHOAL_SANDBOX="

const (
	sandboxFile    = "sandbox.json"
	defaultPause   = "/usr/bin/catatonit"
	defaultShmSize = 64 << 20
)

// StartSandbox starts the pause process in new namespaces and sets them up:
// loopback, hostname, sysctls. What containers see as /dev/shm is made by
// [MountShm]. The process survives the daemon. On error nothing is left. A
// sandbox that Dir records and that lives is returned as it is.
func StartSandbox(ctx context.Context, cfg SandboxConfig) (Sandbox, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return Sandbox{}, fmt.Errorf("sandbox: %w", err)
	}
	// Where no lock was made, nothing was forked: no need to look through /proc,
	// which takes longer the more pods there are.
	_, err := os.Lstat(filepath.Join(cfg.Dir, lockFile))
	fresh := errors.Is(err, fs.ErrNotExist)
	unlock, err := lock(cfg.Dir)
	if err != nil {
		return Sandbox{}, fmt.Errorf("sandbox: %w", err)
	}
	defer unlock()
	if err := cfg.Users.LetIn(cfg.Dir); err != nil {
		return Sandbox{}, fmt.Errorf("sandbox: %w", err)
	}
	if !fresh {
		if sb, err := ReadSandbox(cfg.Dir); err == nil && sb.Alive() {
			return sb, nil
		}
		if err := stopSandbox(cfg.Dir); err != nil { // what an earlier daemon left half done
			return Sandbox{}, err
		}
	}
	sb, err := startSandbox(cfg)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return Sandbox{}, errors.Join(fmt.Errorf("sandbox: %w", err), stopSandbox(cfg.Dir))
	}
	return sb, nil
}

func startSandbox(cfg SandboxConfig) (Sandbox, error) {
	p, err := startPause(cfg)
	if err != nil {
		return Sandbox{}, err
	}
	sb := Sandbox{PID: p.PID, StartTime: p.Start}
	ns := func(name string) string { return "/proc/" + strconv.Itoa(p.PID) + "/ns/" + name }
	if !cfg.HostNetwork {
		sb.NetNS, sb.UTSNS, sb.Hostname = ns("net"), ns("uts"), cfg.Hostname
	}
	if !cfg.HostIPC {
		sb.IPCNS = ns("ipc")
	}
	if cfg.ShareProcessNamespace && !cfg.HostPID {
		sb.PIDNS = ns("pid")
	}
	if cfg.Users != (Users{}) {
		sb.UserNS, sb.Users = ns("user"), cfg.Users
	}
	if err := setUpNamespaces(sb, cfg); err != nil {
		return Sandbox{}, err
	}
	sb.Shm = cfg.shm()
	return sb, writeJSON(cfg.Dir, sandboxFile, sb)
}

// startPause forks catatonit into the new namespaces. It keeps no terminal,
// no descriptor and no death signal of the daemon.
func startPause(cfg SandboxConfig) (proc, error) {
	pause := cfg.Pause
	if pause == "" {
		pause = defaultPause
	}
	var flags uintptr
	if !cfg.HostNetwork {
		flags |= unix.CLONE_NEWNET | unix.CLONE_NEWUTS
	}
	if !cfg.HostIPC {
		flags |= unix.CLONE_NEWIPC
	}
	if cfg.ShareProcessNamespace && !cfg.HostPID {
		flags |= unix.CLONE_NEWPID
	}
	attr := &syscall.SysProcAttr{Cloneflags: flags, Setsid: true}
	cfg.Users.own(attr)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return proc{}, err
	}
	defer null.Close()
	child, err := os.StartProcess(pause, []string{pause, "-P"}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{sandboxEnv + cfg.Dir},
		Files: []*os.File{null, null, null},
		Sys:   attr,
	})
	if err != nil {
		return proc{}, err
	}
	defer child.Release() // proc.alive and proc.kill reap it
	return findProc(child.Pid)
}

// shm is where the pod's /dev/shm lies on the host.
func (cfg SandboxConfig) shm() string {
	if cfg.HostIPC {
		return "/dev/shm"
	}
	return filepath.Join(cfg.Dir, "shm")
}

// MountShm makes the /dev/shm of a pod that has its own; it does nothing where
// it is mounted. [StopSandbox] takes it away. It is not StartSandbox's because
// systemd reads all of /proc/self/mountinfo after each mount, and only then
// what it is asked on its bus: a scope that is wanted at that moment has to wait.
func MountShm(cfg SandboxConfig) error {
	if cfg.HostIPC {
		return nil
	}
	size, shm := cfg.ShmSize, cfg.shm()
	if size == 0 {
		size = defaultShmSize
	}
	if err := os.MkdirAll(shm, 0o700); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, shm, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st); err != nil {
		return fmt.Errorf("sandbox: %w", &os.PathError{Op: "statx", Path: shm, Err: err})
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return nil
	}
	err := unix.Mount("shm", shm, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, cfg.Users.tmpfs()+"mode=1777,size="+strconv.FormatInt(size, 10))
	if err != nil {
		return fmt.Errorf("sandbox: mount %s: %w", shm, err)
	}
	return nil
}

// Alive says whether the pause process runs. Once it does not, the pod's
// namespaces are gone for new containers and the pod needs a new sandbox.
func (s Sandbox) Alive() bool { return proc{s.PID, s.StartTime}.alive() }

// ReadSandbox is what StartSandbox recorded in dir.
func ReadSandbox(dir string) (Sandbox, error) {
	var sb Sandbox
	return sb, readJSON(dir, sandboxFile, &sb)
}

// StopSandbox ends dir's pause process, recorded or not, and takes away what
// StartSandbox made in dir. It may be repeated.
func StopSandbox(dir string) error {
	if err := settle(dir); err != nil {
		return fmt.Errorf("stop sandbox: %w", err)
	}
	return stopSandbox(dir)
}

func stopSandbox(dir string) error {
	sb, err := ReadSandbox(dir)
	switch {
	case err == nil:
		if err := (proc{sb.PID, sb.StartTime}).kill(); err != nil {
			return fmt.Errorf("stop sandbox: %w", err)
		}
	case errors.Is(err, fs.ErrNotExist): // perhaps the daemon died before it could write
		found, err := pauses()
		if err != nil {
			return err
		}
		for _, p := range found[dir] {
			if err := p.kill(); err != nil {
				return fmt.Errorf("stop sandbox: %w", err)
			}
		}
	default:
		return fmt.Errorf("stop sandbox: %w", err)
	}
	shm := filepath.Join(dir, "shm")
	for unix.Unmount(shm, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil { // until nothing is mounted there
	}
	// os.Remove, not RemoveAll: if the mount stayed, its files must not go.
	for _, name := range []string{shm, filepath.Join(dir, sandboxFile)} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("stop sandbox: %w", err)
		}
	}
	return nil
}

// Orphan is a pause process that no sandbox.json knows of.
type Orphan struct {
	PID int
	Dir string // the sandbox directory it was started for
}

// FindOrphans looks through /proc for pause processes below root
// (/run/shoal/pods) that were left when a daemon died before it recorded them,
// or whose directory is gone. StopSandbox(Dir) ends them.
func FindOrphans(root string) ([]Orphan, error) {
	dirs, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		if err := settle(filepath.Join(root, d.Name())); err != nil {
			return nil, err
		}
	}
	found, err := pauses()
	if err != nil {
		return nil, err
	}
	var orphans []Orphan
	for dir, list := range found {
		if !strings.HasPrefix(dir, strings.TrimSuffix(root, "/")+"/") {
			continue
		}
		sb, err := ReadSandbox(dir)
		for _, p := range list {
			if err != nil || (proc{sb.PID, sb.StartTime}) != p {
				orphans = append(orphans, Orphan{p.PID, dir})
			}
		}
	}
	return orphans, nil
}

// pauses are the host's pause processes by sandbox directory. One inside a
// container, where anybody may set the variable, has another root.
func pauses() (map[string][]proc, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, err
	}
	found := map[string][]proc{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env := procStrings(pid, "environ")
		if len(env) != 1 {
			continue
		}
		dir, ours := strings.CutPrefix(env[0], sandboxEnv)
		if !ours {
			continue
		}
		if mnt, err := os.Readlink(filepath.Join("/proc", e.Name(), "ns/mnt")); err != nil || mnt != own {
			continue
		}
		if p, err := findProc(pid); err == nil && p.alive() {
			found[dir] = append(found[dir], p)
		}
	}
	return found, nil
}
