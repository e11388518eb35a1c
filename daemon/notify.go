package daemon

import (
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// notify tells systemd about shoald (sd_notify(3)); elsewhere it does nothing.
func notify(state string) {
	sd.SdNotify(false, state) // without systemd there is nobody to tell
}

// watchdogTicker ticks twice in the unit's WatchdogSec; never without one.
func watchdogTicker() *time.Ticker {
	if d, err := sd.SdWatchdogEnabled(false); err == nil && d > 0 {
		return time.NewTicker(d / 2)
	}
	t := time.NewTicker(time.Hour)
	t.Stop()
	return t
}
