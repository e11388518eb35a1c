package bed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// light is a host made by systemd-nspawn.
type light struct{ machineProcess }

// newLight prepares a host's root: an overlay over the shared base.
func newLight(p place, s spec, h hostSpec, groups cgroups) (*light, error) {
	upper, work, root := p.host(h.Name, "upper"), p.host(h.Name, "work"), p.host(h.Name, "root")
	for _, dir := range append([]string{upper, work, root, p.host(h.Name, "run")}, binds(p, h.Name)...) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	// They are the root's own inode and those of its data: pods run as other users must be able to enter them.
	for _, dir := range append([]string{upper}, binds(p, h.Name)...) {
		if err := os.Chmod(dir, 0o755); err != nil {
			return nil, err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", s.Base, upper, work)
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		return nil, fmt.Errorf("mount the root: %w", err)
	}
	for name, text := range identity(s, h) {
		if err := writeUnder(root, name, text); err != nil {
			return nil, err
		}
	}
	return &light{machineProcess{host: h, place: p, groups: groups}}, nil
}

// dataDirs of a host are on the machine's own file system: an overlay can't be the upper layer of another.
var dataDirs = []string{"/var/lib/shoal", "/var/lib/containers"}

func binds(p place, host string) []string {
	var dirs []string
	for _, dir := range dataDirs {
		dirs = append(dirs, p.host(host, "data", dir))
	}
	return dirs
}

// identity is what makes a host this host and no other: files in its root.
func identity(s spec, h hostSpec) map[string]string {
	hosts := "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
	for _, other := range s.Hosts {
		hosts += fmt.Sprintf("%s %s\n", other.Addr, other.Name)
	}
	return map[string]string{
		"etc/hostname":        h.Name + "\n",
		"etc/hosts":           hosts + fmt.Sprintf("%s registry\n", gateway),
		"etc/machine-id":      h.ID + "\n",
		"etc/resolv.conf":     fmt.Sprintf("search %s\nnameserver %s\n", strings.TrimSuffix(Domain, "."), gateway),
		"etc/testbed/network": networkScript(h.Addr),
	}
}

func writeUnder(root, name, text string) error {
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func (l *light) start() error {
	run := l.place.host(l.host.Name, "run")
	return l.boot(func() ([]string, error) {
		if err := copyProgram(l.place.program(), filepath.Join(run, "testbed")); err != nil {
			return nil, err
		}
		if err := os.Remove(l.place.agent(l.host.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		// The kernel takes a killed host's network down in its own time, and nspawn
		// fails where the interface is still there.
		if err := exec.Command("sh", "-c", `ip link del "$1" 2>/dev/null || ! ip link show "$1" 2>/dev/null`, "sh", port(l.host.Name)).Run(); err != nil {
			return nil, fmt.Errorf("remove the interface of the host's last run: %w", err)
		}
		args := []string{"systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit",
			"--machine=" + l.host.Name, "--directory=" + l.place.host(l.host.Name, "root"),
			"--network-bridge=" + bridge, "--capability=all", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
			"--console=pipe", "--bind=" + run + ":/run/testbed"}
		for i, dir := range binds(l.place, l.host.Name) {
			args = append(args, "--bind="+dir+":"+dataDirs[i])
		}
		return args, nil
	},
		"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1",
		// Pods need what nspawn's filter refuses: keyrings, bpf, mounts of all kinds.
		"SYSTEMD_SECCOMP=0",
		// The host may change its network's settings (ip_forward), not those of the machine's kernel.
		"SYSTEMD_NSPAWN_API_VFS_WRITABLE=network",
	)
}

// copyProgram puts a hard link to a program where a host sees it, or a copy where links can't reach.
func copyProgram(from, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o700)
}
