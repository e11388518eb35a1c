package bed

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// fullPackages are on full hosts besides: a kernel and what boots it.
var fullPackages = []string{"linux-image-cloud-amd64", "initramfs-tools", "udev", "apparmor"}

// fullHook finishes a full host's root: it gets its identity and the agent from a second disk, and an initial ramdisk
// with only the drivers of QEMU's devices, which boots faster under emulation.
const fullHook = `
cat > "$1/etc/systemd/system/testbed-identity.service" <<'UNIT'
[Unit]
Description=Names and addresses from the test-bed
DefaultDependencies=no
RequiresMountsFor=/run/testbed
After=systemd-remount-fs.service
Before=testbed-network.service testbed-agent.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=cp -r /run/testbed/identity/. /
[Install]
WantedBy=sysinit.target
UNIT
chroot "$1" systemctl -q enable testbed-identity.service
chroot "$1" systemctl -q mask serial-getty@ttyS0.service systemd-udev-settle.service
printf '%s\n' '/dev/vda / ext4 rw 0 0' '/dev/vdb /run/testbed ext4 ro 0 0' > "$1/etc/fstab"
echo MODULES=list > "$1/etc/initramfs-tools/conf.d/testbed"
printf '%s\n' virtio_pci virtio_blk ext4 > "$1/etc/initramfs-tools/modules"
printf '%s\n' virtio_console virtio_net > "$1/etc/modules-load.d/testbed.conf"
chroot "$1" update-initramfs -u
`

// diskSize is the size of a full host's root; the image is sparse.
const diskSize = "8G"

// fullBase is a directory with a disk, a kernel and an initial ramdisk that all full hosts share.
func fullBase() recipe {
	packages := append(slices.Clone(hostPackages), fullPackages...)
	return recipe{
		name: "full",
		text: strings.Join(packages, " ") + suite + hostHook + fullHook + diskSize,
		build: func(ctx context.Context, dir string) error {
			root := filepath.Join(dir, "root")
			if err := os.Mkdir(root, 0o755); err != nil {
				return err
			}
			if err := debootstrap(ctx, root, "minbase", packages, hostHook+fullHook); err != nil {
				return fmt.Errorf("root of full hosts: %w", err)
			}
			if err := takeOut(filepath.Join(root, "boot"), dir); err != nil {
				return err
			}
			if err := makeDisk(ctx, filepath.Join(dir, "disk.raw"), root, diskSize, "root"); err != nil {
				return err
			}
			return os.RemoveAll(root)
		},
	}
}

// takeOut moves the kernel and its ramdisk out of a root's /boot, under names without a version.
func takeOut(boot, dir string) error {
	for name, pattern := range map[string]string{"kernel": "vmlinuz-*", "initrd": "initrd.img-*"} {
		found, err := filepath.Glob(filepath.Join(boot, pattern))
		if err != nil {
			return err
		}
		if len(found) != 1 {
			return fmt.Errorf("%d files match %s in /boot, want 1", len(found), pattern)
		}
		if err := os.Rename(found[0], filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// makeDisk makes a file system with what is in a directory.
func makeDisk(ctx context.Context, path, content, size, label string) error {
	return runTool(exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-m", "0", "-L", label, "-d", content, path, size))
}

// lightBase is the root that all light hosts share, or those that have more packages.
func lightBase(more ...string) recipe {
	packages := append(slices.Clone(hostPackages), more...)
	return recipe{
		name: "light",
		text: strings.Join(packages, " ") + suite + hostHook,
		build: func(ctx context.Context, dir string) error {
			if err := debootstrap(ctx, dir, "minbase", packages, hostHook); err != nil {
				return fmt.Errorf("root of light hosts: %w", err)
			}
			return nil
		},
	}
}
