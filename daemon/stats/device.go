package stats

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// device is the name of a block device in /dev. A number that sysfs does not
// know, as a btrfs or tmpfs has, stays as it is.
func (l *look) device(number string) string {
	name, known := l.devices[number]
	if !known {
		name = number
		if link, err := os.Readlink(filepath.Join(l.cfg.Sys, "dev/block", number)); err == nil {
			name = "/dev/" + filepath.Base(link)
		}
		l.devices[number] = name
	}
	return name
}

func number(device uint64) string {
	return fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))
}
