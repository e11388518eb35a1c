package bed

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/shoal-project/shoal/packaging/testbed/agent"
)

// full is a host made by QEMU.
type full struct {
	machineProcess
	base   string
	kvm    bool
	smp    string
	nested string // the disk with the root of nested hosts; empty: none
}

// newFull prepares a host's disks, its interface and the way to its agent.
func newFull(p place, s spec, h hostSpec, groups cgroups) (*full, error) {
	content := p.host(h.Name, "content")
	for _, dir := range []string{content, p.host(h.Name, "run")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	for name, text := range identity(s, h) {
		if err := writeUnder(filepath.Join(content, "identity"), name, text); err != nil {
			return nil, err
		}
	}
	if err := copyProgram(p.program(), filepath.Join(content, "testbed")); err != nil {
		return nil, err
	}
	f := &full{machineProcess{host: h, place: p, groups: groups}, s.Base, s.KVM, cmp.Or(s.SMP, "2"), s.NestedOn}
	ctx := context.Background()
	if err := makeDisk(ctx, f.file("testbed.raw"), content, "64M", "testbed"); err != nil {
		return nil, err
	}
	if err := runTool(exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw",
		"-b", filepath.Join(s.Base, "disk.raw"), f.file("root.qcow2"))); err != nil {
		return nil, err
	}
	if err := runTool(exec.Command("sh", "-ec",
		`ip tuntap add "$1" mode tap; ip link set "$1" master "$2" up`, "sh", port(h.Name), bridge)); err != nil {
		return nil, err
	}
	return f, f.serveAgent()
}

func (f *full) file(name string) string { return f.place.host(f.host.Name, name) }

func (f *full) start() error {
	return f.boot(func() ([]string, error) {
		if err := os.Remove(f.file("port.sock")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		a := f.host.Addr.As4()
		args := append(qemu(f.base, f.kvm, strings.Contains(f.smp, "threads=")),
			"-append", "root=/dev/vda rw console=ttyS0 panic=-1 net.ifnames=0 module_blacklist=kvm,kvm_amd,kvm_intel,powernow_k8"+
				" systemd.machine_id="+f.host.ID,
			"-smp", f.smp, "-m", "1536",
			"-drive", "if=virtio,format=qcow2,cache=unsafe,file="+f.file("root.qcow2"),
			"-drive", "if=virtio,format=raw,readonly=on,file="+f.file("testbed.raw"),
			"-netdev", "tap,id=net,script=no,downscript=no,ifname="+port(f.host.Name),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=net,mac=52:54:00:99:00:%02x,romfile=", a[3]),
			"-device", "virtio-serial-pci",
			"-chardev", "socket,id=agent,server=on,wait=off,path="+f.file("port.sock"),
			"-device", "virtserialport,chardev=agent,name="+filepath.Base(AgentPort),
			"-device", "virtio-rng-pci")
		if f.nested != "" {
			args = append(args, "-drive", "if=virtio,format=raw,readonly=on,file="+f.nested)
		}
		return args, nil
	})
}

// qemu is the beginning of a command line that boots the base's kernel. An emulated AMD processor, the default, tells
// nothing of its threads, since QEMU does not emulate TOPOEXT; one of Intel does.
func qemu(base string, kvm, threads bool) []string {
	args := []string{"qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
		"-kernel", filepath.Join(base, "kernel"), "-initrd", filepath.Join(base, "initrd")}
	if kvm {
		return append(args, "-accel", "kvm", "-cpu", "host")
	}
	cpu := "max"
	if threads {
		cpu += ",vendor=GenuineIntel"
	}
	return append(args, "-accel", "tcg,thread=multi", "-cpu", cpu)
}

// serveAgent lets many callers share the one virtio-serial port behind which the agent is: requests that come in on the
// host's socket go out on one HTTP/2 connection.
func (f *full) serveAgent() error {
	l, err := net.Listen("unix", f.place.agent(f.host.Name))
	if err != nil {
		return err
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "agent"})
	proxy.FlushInterval = -1
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusBadGateway) // the caller knows whether that is news
	}
	proxy.Transport = agent.Transport(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", f.file("port.sock"))
	})
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	go func() { _ = (&http.Server{Handler: proxy, Protocols: &h2c}).Serve(l) }()
	return nil
}

// kvmBoots tells whether a kernel really starts on KVM here: /dev/kvm may be there and refuse, or hang.
func kvmBoots(ctx context.Context, base string) bool {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	args := append(qemu(base, true, false), "-m", "256", "-no-reboot", "-append", "console=ttyS0 panic=-1 root=/dev/none")
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	seen := &sight{text: []byte("Linux version"), found: cancel}
	cmd.Stdout = seen
	_ = cmd.Run() // ends by its own failure, by what it shows, or by time
	return seen.seen
}

// sight watches what is written for a text.
type sight struct {
	text  []byte
	found func()
	buf   []byte
	seen  bool
}

func (s *sight) Write(p []byte) (int, error) {
	s.buf = append(s.buf, p...)
	if !s.seen && bytes.Contains(s.buf, s.text) {
		s.seen = true
		s.found()
	}
	return len(p), nil
}
