package image

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// hostSecrets are patterns of what a container on the host's own root must not see: Shoal's keys and state, sockets of
// other daemons, password hashes, private keys of the host and of root.
var hostSecrets = []string{
	"/etc/shoal", "/var/lib/shoal", "/run",
	"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd",
	"/etc/ssh/ssh_host_*_key", "/etc/ssl/private", "/etc/krb5.keytab", "/etc/wireguard", "/root/.ssh",
}

// hostTrees are the parts of a host that are worth showing when they are file systems of their own. Others (/home, /boot,
// /mnt) appear empty to a container on the host's root; volumes bring them in.
var hostTrees = []string{"/etc", "/opt", "/srv", "/usr", "/var"}

// openRootfs makes an image of a directory tree.
func openRootfs(ref string) (Image, error) {
	dir := strings.TrimPrefix(ref, rootfsPrefix)
	if !filepath.IsAbs(dir) {
		err := fmt.Errorf("%w %q: a directory tree is written rootfs:///PATH, with three slashes", ErrInvalidName, ref)
		return Image{}, &failure{ErrInvalidName, err.Error(), err}
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return Image{}, &failure{ErrNotFound, fmt.Sprintf("%s: %v", ref, err), err}
	}
	info, err := os.Stat(real)
	if err != nil {
		return Image{}, err
	}
	if !info.IsDir() {
		return Image{}, invalidf("%s: it is not a directory", ref)
	}
	img := Image{
		Names:  []string{ref},
		Layers: []string{real},
		Config: v1.Config{Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
	}
	if real != "/" {
		return img, nil
	}
	img.HostRoot = true
	img.Masked, err = presentSecrets()
	if err != nil {
		return Image{}, err
	}
	img.Submounts, err = hostSubmounts()
	return img, err
}

func presentSecrets() ([]string, error) {
	var found []string
	for _, pattern := range hostSecrets {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, m := range matches {
			real, err := filepath.EvalSymlinks(m)
			if err != nil {
				continue // a dangling link shows nothing
			}
			found = append(found, real)
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

func hostSubmounts() ([]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	kinds, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return nil, err
	}
	return submounts(string(table), string(kinds)), nil
}

// submounts finds the mount points in and below hostTrees that hold files on disk, outermost first. table is
// /proc/self/mountinfo (proc_pid_mountinfo(5)), kinds /proc/filesystems.
func submounts(table, kinds string) []string {
	virtual := map[string]bool{}
	for line := range strings.Lines(kinds) {
		if kind, ok := strings.CutPrefix(strings.TrimSpace(line), "nodev\t"); ok && kind != "zfs" {
			virtual[kind] = true
		}
	}
	var found []string
	for line := range strings.Lines(table) {
		mount, super, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(mount), strings.Fields(super)
		if !ok || len(left) < 5 || len(right) < 1 || virtual[right[0]] {
			continue
		}
		at := unescapeMount.Replace(left[4])
		if slices.ContainsFunc(hostTrees, func(tree string) bool { return isBelow(at, tree) }) && !isBelow(at, "/var/lib/shoal") {
			found = append(found, at)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// isBelow says whether file is dir or inside it.
func isBelow(file, dir string) bool {
	return file == dir || strings.HasPrefix(file, strings.TrimSuffix(dir, "/")+"/")
}
