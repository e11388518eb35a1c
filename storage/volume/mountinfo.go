package volume

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// mount is one line of /proc/self/mountinfo.
type mount struct {
	path   string
	shared bool // events travel out of it
	slave  bool // events travel into it
}

// parseMountinfo reads the format of proc_pid_mountinfo(5).
func parseMountinfo(text string) ([]mount, error) {
	var mounts []mount
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		end := slices.Index(fields, "-")
		if len(fields) < 6 || end < 6 {
			return nil, fmt.Errorf("mountinfo: bad line %q", line)
		}
		m := mount{path: unescape(fields[4])}
		for _, option := range fields[6:end] {
			m.shared = m.shared || strings.HasPrefix(option, "shared:")
			m.slave = m.slave || strings.HasPrefix(option, "master:")
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

// unescape undoes the kernel's mangling of blanks and backslashes as \ and three octal digits.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// below is the paths of the mounts on dir and below it, the deepest first, each as often as something is mounted there.
func below(dir string, mounts []mount) []string {
	var paths []string
	for _, m := range mounts {
		if m.path == dir || strings.HasPrefix(m.path, strings.TrimSuffix(dir, "/")+"/") {
			paths = append(paths, m.path)
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return comparePaths(b, a) })
	return paths
}

// covering is the mount that path lies on: the innermost, and of several on one place the last.
func covering(path string, mounts []mount) (mount, bool) {
	var found mount
	var ok bool
	for _, m := range mounts {
		if m.path != path && !strings.HasPrefix(path, strings.TrimSuffix(m.path, "/")+"/") {
			continue
		}
		if !ok || len(m.path) >= len(found.path) {
			found, ok = m, true
		}
	}
	return found, ok
}
