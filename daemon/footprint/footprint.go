// Package footprint keeps small what the daemon holds of a host's memory while
// it has nothing to do.
package footprint

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// How much the heap may grow before garbage is collected, in percent of what
// lives in it (GOGC). At rest a small heap matters more: the daemon is one
// process among the host's work. A burst of 50 pods makes some 60 MB of garbage
// in a second, of which collecting took 15 % of the daemon's processor time.
const (
	restPercent = 50
	workPercent = 200
)

// Grow lets the heap grow while there is work to do. [Shrink] ends it.
func Grow() { debug.SetGCPercent(workPercent) }

// Shrink collects garbage, gives free heap back to the kernel, and lets go of
// the pages of the program itself, of which most were needed for its start
// only. Those that are needed again come back from the page cache, each by a
// minor fault. It takes some 12 ms of a processor: call it when work has ended.
func Shrink() error {
	debug.SetGCPercent(restPercent)
	debug.FreeOSMemory()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer f.Close()
	// By an address in it, as the file may have another's name after an upgrade.
	ranges, err := programOnly(f, reflect.ValueOf(Shrink).Pointer())
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range ranges {
		errs = append(errs, r.letGo())
	}
	return errors.Join(errs...)
}

// addresses are those from one up to another, which is not among them.
type addresses struct{ from, to uintptr }

// letGo unmaps pages (madvise(2)). The system call is made directly, for there
// is no Go slice of these addresses.
func (a addresses) letGo() error {
	_, _, errno := unix.Syscall(unix.SYS_MADVISE, a.from, a.to-a.from, unix.MADV_DONTNEED)
	if errno != 0 && errno != unix.EINVAL { // EINVAL: somebody locked them into memory
		return fmt.Errorf("let go of %x-%x: %w", a.from, a.to, errno)
	}
	return nil
}

// mapping is one of /proc/PID/smaps (proc_pid_smaps(5)).
type mapping struct {
	addresses
	perms, device, inode string
	changed              bool // some of its pages are not as the file has them
}

// programOnly finds the mappings of the file that is mapped at text which are
// as the file is: neither writable nor changed. Relocations and a debugger's
// breakpoints are private copies of pages, which would be lost.
func programOnly(smaps io.Reader, text uintptr) ([]addresses, error) {
	all, err := mappings(smaps)
	if err != nil {
		return nil, err
	}
	var program mapping
	for _, m := range all {
		if m.from <= text && text < m.to {
			program = m
		}
	}
	var found []addresses
	for _, m := range all {
		same := m.device == program.device && m.inode == program.inode && m.inode != "0"
		if same && !m.changed && !strings.Contains(m.perms, "w") {
			found = append(found, m.addresses)
		}
	}
	return found, nil
}

func mappings(smaps io.Reader) ([]mapping, error) {
	var all []mapping
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) > 1 && f[0] == "Anonymous:" && len(all) > 0:
			all[len(all)-1].changed = f[1] != "0"
		case len(f) > 4 && !strings.HasSuffix(f[0], ":"):
			// Until smaps says otherwise, nothing is known of its pages.
			m := mapping{perms: f[1], device: f[3], inode: f[4], changed: true}
			if _, err := fmt.Sscanf(f[0], "%x-%x", &m.from, &m.to); err != nil {
				return nil, fmt.Errorf("smaps: %q: %w", lines.Text(), err)
			}
			all = append(all, m)
		}
	}
	return all, lines.Err()
}
