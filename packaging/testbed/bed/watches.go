package bed

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// instances is how many inotify(7) instances root may have at least: systemd, logind, dbus and shoald of one host have eight,
// and where none is left a host's systemd ends without a word. Linux allows 128, which is 15 hosts.
const instances = 8192

const instancesLimit = "/proc/sys/fs/inotify/max_user_instances"

// allowWatches raises the machine's limit, and never lowers it.
func allowWatches() error {
	text, err := os.ReadFile(instancesLimit)
	if err != nil {
		return err
	}
	is, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s: %w", instancesLimit, err)
	}
	if is >= instances {
		return nil
	}
	return os.WriteFile(instancesLimit, []byte(strconv.Itoa(instances)), 0o644)
}
