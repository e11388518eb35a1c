package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// allowed says whether the process at the other end of a loopback connection
// is the user's own or root's.
func allowed(c net.Conn) bool {
	peer, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return false
	}
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return false
	}
	uid, err := ownerOf(peer, local)
	return err == nil && (uid == os.Getuid() || uid == 0)
}

// ownerOf looks up who owns the socket that is bound to from and connected to
// to, in /proc/net/tcp (proc_pid_net(5)).
func ownerOf(from, to netip.AddrPort) (int, error) {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	want := [2]string{hexAddr(from), hexAddr(to)}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 7 && fields[1] == want[0] && fields[2] == want[1] {
			return strconv.Atoi(fields[7])
		}
	}
	return 0, fmt.Errorf("no socket from %s to %s", from, to)
}

// hexAddr is an IPv4 address as the kernel prints it: host byte order.
func hexAddr(a netip.AddrPort) string {
	ip := a.Addr().Unmap().As4()
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), a.Port())
}
