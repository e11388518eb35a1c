package bed

import (
	"context"
	"fmt"
	"strings"
)

// hostPackages are on every host: what the shoal package depends on, and what one looks around with.
var hostPackages = []string{"systemd", "systemd-sysv", "dbus", "libpam-systemd", "crun", "runc", "conmon", "catatonit",
	"nftables", "iproute2", "iputils-ping", "ca-certificates", "procps", "psmisc", "curl", "kmod", "netcat-openbsd",
	"less", "e2fsprogs", "systemd-container", "kubernetes-client", "python3-minimal"}

// hostHook finishes a host's root. What differs between hosts is not here but added when one boots.
//
// The agent's unit keeps KillMode=process so that restarting it leaves the commands it runs alone. Timers that work on
// their own schedule are masked: they would disturb measurements. The journal is kept on disk so that it can be read
// after a power cut.
const hostHook = `set -e
cat > "$1/etc/systemd/system/testbed-network.service" <<'UNIT'
[Unit]
Description=Address on the test-bed's network
Before=network.target
Wants=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /etc/testbed/network
[Install]
WantedBy=multi-user.target
UNIT
cat > "$1/etc/systemd/system/testbed-agent.service" <<'UNIT'
[Unit]
Description=Runs commands for the test-bed
RequiresMountsFor=/run/testbed
StartLimitIntervalSec=0
[Service]
ExecStart=/run/testbed/testbed agent
Restart=always
RestartSec=100ms
KillMode=process
TasksMax=infinity
LimitNOFILE=1048576
OOMScoreAdjust=-900
[Install]
WantedBy=multi-user.target
UNIT
mkdir -p "$1/etc/testbed" "$1/run/testbed" "$1/var/log/journal" "$1/var/lib/shoal" "$1/var/lib/containers"
chroot "$1" systemctl -q enable testbed-network.service testbed-agent.service
chroot "$1" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
	fstrim.timer e2scrub_reap.service console-getty.service getty.target systemd-networkd-wait-online.service \
	sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount
rm -f "$1/etc/machine-id" "$1/etc/hostname" "$1/etc/resolv.conf" "$1/var/lib/dbus/machine-id"
: > "$1/etc/machine-id"
`

// lightBase is the root that all light hosts share.
func lightBase() recipe {
	return recipe{
		name: "light",
		text: strings.Join(hostPackages, " ") + suite + hostHook,
		build: func(ctx context.Context, dir string) error {
			if err := debootstrap(ctx, dir, "minbase", hostPackages, hostHook); err != nil {
				return fmt.Errorf("root of light hosts: %w", err)
			}
			return nil
		},
	}
}
