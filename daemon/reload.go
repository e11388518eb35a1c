package daemon

import (
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/daemon/config"
)

// live are the settings that a reload puts in force; the others shape what
// running pods hold on to, and wait for a restart.
var live = []string{
	"dns.upstreams", "dns.stub_domains", "join", "lease.bootstrap_expect", "labels", "scheduler.scoring", "cpu.policy", "cpu.reserved", "cpu.full_pcpus_only", "cpu.strict_reservation",
	"eviction.node_monitor_period", "eviction.node_monitor_grace_period", "eviction.node_startup_grace_period", "eviction.pod_eviction_timeout",
	"eviction.node_eviction_rate", "eviction.secondary_node_eviction_rate", "eviction.unhealthy_zone_threshold", "eviction.large_cluster_size_threshold",
}

// hangups gets SIGHUP from here on, which else would end the daemon.
func hangups() chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGHUP)
	return c
}

// reload reads the configuration again (systemctl reload). A file that is no
// good changes nothing.
func (d *Daemon) reload() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err == nil {
		notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000)) // sd_notify(3)
	}
	defer func() { notify("READY=1\nSTATUS=" + d.summary()) }()
	next, err := d.Reload()
	if err != nil {
		d.Log.Error("the configuration is wrong: the former one stays in force", "err", err)
		d.events.Warning(d.nodeReference(), "InvalidConfiguration", "%v", err)
		return
	}
	changed := changedKeys(d.Config, next)
	if cpuKeys(changed) {
		if err := d.host.setCPUs(next.CPU); err != nil {
			d.Log.Error("the configuration is wrong: the former one stays in force", "err", err)
			d.events.Warning(d.nodeReference(), "InvalidConfiguration", "%v", err)
			return
		}
	}
	applied, later := reloadable(changed)
	d.Config.Labels, d.Config.Eviction.Config = next.Labels, next.Eviction.Config
	d.nodes.look = true
	d.Config.Lease.BootstrapExpect = next.Lease.BootstrapExpect
	d.host.setUpstreams(next.DNS)
	d.reloadFleet(next.Join)
	d.Config.Scheduler = next.Scheduler
	d.publishNode()
	d.Log.Info("configuration read again", "applied", applied, "needs_restart", later)
	if len(later) > 0 {
		d.events.Warning(d.nodeReference(), "RestartNeeded", "changed settings wait for a restart of shoald: %s", strings.Join(later, ", "))
	}
}

// reloadable splits keys into those that a reload applies and those that need a
// restart.
func reloadable(changed []string) (now, later []string) {
	for _, key := range changed {
		if slices.Contains(live, key) {
			now = append(now, key)
		} else {
			later = append(later, key)
		}
	}
	return now, later
}

// changedKeys are the settings that differ, as they are called in the file, in
// the order of the structure; maps count as one.
func changedKeys(a, b *config.Config) []string {
	return changedFields("", reflect.ValueOf(*a), reflect.ValueOf(*b))
}

func changedFields(prefix string, a, b reflect.Value) []string {
	var keys []string
	for i := range a.NumField() {
		name := a.Type().Field(i).Tag.Get("toml")
		switch {
		case a.Type().Field(i).Anonymous: // its keys are the table's own
			keys = append(keys, changedFields(prefix, a.Field(i), b.Field(i))...)
		case name == "-": // computed from the others
		case a.Field(i).Kind() == reflect.Struct:
			keys = append(keys, changedFields(prefix+name+".", a.Field(i), b.Field(i))...)
		case !same(a.Field(i), b.Field(i)):
			keys = append(keys, prefix+name)
		}
	}
	return keys
}

// same holds an empty list or table to be the same as none.
func same(a, b reflect.Value) bool {
	if k := a.Kind(); (k == reflect.Map || k == reflect.Slice) && a.Len()+b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}
