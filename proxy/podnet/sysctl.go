package podnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const procNet = "/proc/sys/net"

// setSysctl writes only what differs, for hosts where /proc/sys is read-only
// and right already.
func setSysctl(key, want string) error {
	path := filepath.Join(procNet, key)
	have, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(have)) == want {
		return nil
	}
	return os.WriteFile(path, []byte(want), 0o644)
}

func haveIPv6() bool {
	_, err := os.Stat(filepath.Join(procNet, "ipv6"))
	return err == nil
}

// forwardIPv6 makes the host a router without making it deaf: a forwarding
// interface ignores router advertisements unless accept_ra is 2
// (Documentation/networking/ip-sysctl.rst), and the host may have its own
// default route from them.
func forwardIPv6() error {
	const all = "ipv6/conf/all/forwarding"
	if b, err := os.ReadFile(filepath.Join(procNet, all)); err == nil && strings.TrimSpace(string(b)) == "1" {
		return nil
	}
	paths, err := filepath.Glob(filepath.Join(procNet, "ipv6/conf/*/accept_ra"))
	if err != nil {
		return err
	}
	for _, p := range paths {
		dev := filepath.Base(filepath.Dir(p))
		b, err := os.ReadFile(p)
		if dev == "all" || dev == "default" || errors.Is(err, fs.ErrNotExist) || strings.TrimSpace(string(b)) != "1" {
			continue
		}
		if err := os.WriteFile(p, []byte("2"), 0o644); err != nil {
			return fmt.Errorf("keep %s listening to router advertisements: %w", dev, err)
		}
	}
	return setSysctl(all, "1")
}
