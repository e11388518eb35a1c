package stats

import (
	"bytes"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// isNoDevice is how a cgroup, or a process, that went says so to who has its
// files open.
func isNoDevice(err error) bool { return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ESRCH) }

// interfaces reads /proc/PID/net/dev: the process's network namespace.
func (l *look) interfaces(path string) []Interface {
	text, err := l.read(path)
	if err != nil {
		return nil
	}
	return parseInterfaces(text)
}

// parseInterfaces leaves the loopback out, as the kubelet does.
func parseInterfaces(text []byte) []Interface {
	var list []Interface
	for line := range bytes.Lines(text) {
		name, rest, ok := strings.Cut(string(line), ":")
		f := strings.Fields(rest)
		name = strings.TrimSpace(name)
		if !ok || len(f) < 12 || name == "lo" {
			continue
		}
		n := func(i int) uint64 { return parseAmount([]byte(f[i])).n }
		list = append(list, Interface{
			Name:    name,
			RxBytes: n(0), RxPackets: n(1), RxErrors: n(2), RxDropped: n(3),
			TxBytes: n(8), TxPackets: n(9), TxErrors: n(10), TxDropped: n(11),
		})
	}
	return list
}

// defaultRoute is the interface of the first default route in
// /proc/net/route (IPv4); empty where there is none.
func defaultRoute(text []byte) string {
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		if len(f) >= 8 && string(f[1]) == "00000000" && string(f[7]) == "00000000" {
			return string(f[0])
		}
	}
	return ""
}
