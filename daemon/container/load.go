package container

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/securitycontext"
)

const defaultSeccompRoot = "/var/lib/kubelet/seccomp"

// maxImageFile bounds the accounts and profiles read into memory: images and
// the people who name files in them are not trusted.
const maxImageFile = 4 << 20

// Load fills in Host: the accounts of the image, the Localhost seccomp
// profile, and for privileged containers the devices. A missing profile is a
// CreateContainerError, as in containerd.
func (cfg Config) Load() (Config, error) {
	var err error
	if cfg.Host.Passwd, err = readBelow(cfg.Rootfs, "etc/passwd", unix.RESOLVE_IN_ROOT); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cfg, &Error{CreateContainerError, fmt.Errorf("the image's users: %w", err)}
	}
	if cfg.Host.Group, err = readBelow(cfg.Rootfs, "etc/group", unix.RESOLVE_IN_ROOT); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cfg, &Error{CreateContainerError, fmt.Errorf("the image's groups: %w", err)}
	}
	if err := cfg.checkIDMaps(); err != nil {
		return cfg, err
	}
	if cfg.Host.Hostname, err = os.Hostname(); err != nil {
		return cfg, err
	}
	if cfg.Host.Capabilities, err = hostCapabilities(); err != nil {
		return cfg, err
	}
	sc := securitycontext.DetermineEffectiveSecurityContext(cfg.Pod, cfg.Container)
	cfg.Host.AppArmor = AppArmorEnabled()
	if err := ensureAppArmor(appArmorProfile(cfg.AppArmor, privileged(sc), cfg.Host.AppArmor)); err != nil {
		return cfg, &Error{CreateContainerError, err}
	}
	if privileged(sc) {
		cfg.Host.Devices, err = hostDevices("/dev")
		return cfg, err
	}
	profile := seccompProfile(cfg)
	if profile.Type != v1.SeccompProfileTypeLocalhost {
		return cfg, nil
	}
	if profile.LocalhostProfile == nil || *profile.LocalhostProfile == "" {
		return cfg, configError("localhostProfile must be set if seccompProfile type is Localhost.")
	}
	root := cfg.SeccompRoot
	if root == "" {
		root = defaultSeccompRoot
	}
	if cfg.Host.SeccompProfile, err = readBelow(root, *profile.LocalhostProfile, unix.RESOLVE_BENEATH); err != nil {
		return cfg, &Error{CreateContainerError, fmt.Errorf("seccomp profile %q: %w", *profile.LocalhostProfile, err)}
	}
	return cfg, nil
}

// readBelow reads a regular file below root; no symbolic link leads out of it
// (openat2(2)), and a FIFO does not hold the daemon up.
func readBelow(root, name string, resolve uint64) ([]byte, error) {
	dir, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY, Resolve: resolve | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(root, name), Err: err}
	}
	f := os.NewFile(uintptr(fd), filepath.Join(root, name))
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", f.Name())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxImageFile+1))
	if err == nil && len(b) > maxImageFile {
		err = fmt.Errorf("%s is larger than %d bytes", f.Name(), maxImageFile)
	}
	return b, err
}

// hostCapabilities is the daemon's own bounding set: nobody gets more.
func hostCapabilities() ([]string, error) {
	out := []string{}
	for bit, name := range allCapabilities {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(bit), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // the kernel knows no more
		}
		if err != nil {
			return nil, fmt.Errorf("read capability bounding set: %w", err)
		}
		if has == 1 {
			out = append(out, name)
		}
	}
	return out, nil
}

// notDevices are what every container has of its own, or (console) what is the
// host's alone.
var notDevices = []string{"pts", "shm", "mqueue", "console", ".udev", ".lxc", ".lxd-mounts"}

// hostDevices lists the device nodes below dir, as containerd's HostDevices
// does; links and what vanishes meanwhile are left out.
func hostDevices(dir string) ([]specs.LinuxDevice, error) {
	var list []specs.LinuxDevice
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range notDevices {
			if path == filepath.Join(dir, name) && entry.IsDir() {
				return fs.SkipDir
			} else if path == filepath.Join(dir, name) {
				return nil
			}
		}
		if entry.Type()&fs.ModeDevice == 0 {
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return nil
		}
		kind := "b"
		if st.Mode&unix.S_IFMT == unix.S_IFCHR {
			kind = "c"
		}
		mode := fs.FileMode(st.Mode &^ unix.S_IFMT)
		list = append(list, specs.LinuxDevice{
			Path: "/dev" + strings.TrimPrefix(path, dir), Type: kind,
			Major: int64(unix.Major(uint64(st.Rdev))), Minor: int64(unix.Minor(uint64(st.Rdev))),
			FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
		})
		return nil
	})
	return list, err
}
