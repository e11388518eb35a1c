package bed

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"github.com/shoal-project/shoal/packaging/testbed/agent"
)

// guestCache is the cache directory inside a full host.
const guestCache = "/var/cache/shoal-testbed"

const nestedName = "nested"

// nestedDisk is a disk with the root of light hosts, for full hosts to nest them on.
func nestedDisk(light string) recipe {
	return recipe{
		name: "nested",
		text: light + diskSize,
		build: func(ctx context.Context, dir string) error {
			return makeDisk(ctx, filepath.Join(dir, "disk.raw"), light, diskSize, "nested")
		},
	}
}

// nest makes a bed of light hosts inside a full host: their limits are enforced, at emulation's speed.
func (h *Host) nest(ctx context.Context, hosts int) (*Bed, error) {
	const script = `mkdir -p "$1" && mount -o ro /dev/vdc "$1" && /run/testbed/testbed up --bed "$2" --hosts "$3"`
	base := filepath.Join(guestCache, filepath.Base(lightBase().path()))
	if _, err := h.Shell(ctx, script, base, nestedName, strconv.Itoa(hosts)); err != nil {
		return nil, fmt.Errorf("nest hosts: %w", err)
	}
	return h.attachNested(hosts)
}

func (h *Host) attachNested(hosts int) (*Bed, error) {
	s, err := plan(Config{Name: nestedName, Hosts: hosts})
	if err != nil {
		return nil, err
	}
	return attach(place(filepath.Join(guestCache, "beds", nestedName)), s, nil, h), nil
}

// Nested is the bed inside a full host, made when Config.Nested asked for it; nil without one. It ends with its host,
// and a host that lost its power comes back without it.
func (h *Host) Nested() *Bed { return h.nested }

// dialIn connects to a unix socket inside the host.
func (h *Host) dialIn(_ context.Context, path string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		_, _ = h.Stream(context.Background(), agent.Command{Args: []string{"nc", "-N", "-U", path}},
			agent.IO{Stdin: far, Stdout: far})
	}()
	return near, nil
}
