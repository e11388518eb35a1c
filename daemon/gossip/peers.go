package gossip

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// peersVersion is the snapshot's format.
const peersVersion = 1

// peer is a member as the snapshot has it. One that failed stays in it: when all
// hosts of a fleet lose their power, the last one saw the others fail.
type peer struct {
	Name string         `json:"name"`
	Addr netip.AddrPort `json:"addr"`
}

type snapshot struct {
	Version int    `json:"version"`
	Peers   []peer `json:"peers"`
}

// readPeers is what the snapshot remembers. A snapshot that can't be read costs
// the memory of who was there, and nothing else.
func readPeers(path string, log *slog.Logger) []peer {
	if path == "" {
		return nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var s snapshot
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err == nil && s.Version != peersVersion {
		err = fmt.Errorf("its format is %d, and this version knows %d", s.Version, peersVersion)
	}
	if err != nil {
		log.Warn("the hosts that were members before are not known: the file can't be read", "path", path, "err", err)
		return nil
	}
	return slices.DeleteFunc(s.Peers, func(p peer) bool { return !p.Addr.IsValid() })
}

// writePeers replaces the snapshot.
func writePeers(path string, peers []peer) error {
	if path == "" {
		return nil
	}
	data, err := json.Marshal(snapshot{Version: peersVersion, Peers: peers})
	if err != nil {
		return fmt.Errorf("remember the cluster's members: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("remember the cluster's members: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("remember the cluster's members: %w", err)
	}
	return nil
}

// remember writes the snapshot if others are to be in it than are. While this
// host has found nobody, it keeps what there is.
func (g *Gossip) remember() {
	var peers []peer
	g.mu.Lock()
	for _, m := range g.known {
		if m.Name != g.cfg.Name && m.Status != Left {
			peers = append(peers, peer{m.Name, m.Addr})
		}
	}
	alone := len(g.known) < 2
	g.mu.Unlock()
	slices.SortFunc(peers, func(a, b peer) int { return strings.Compare(a.Name, b.Name) })
	if alone || slices.Equal(peers, *g.peers.Load()) {
		return
	}
	g.peers.Store(&peers)
	if err := writePeers(g.cfg.Snapshot, peers); err != nil {
		g.log.Warn("the cluster's members are not remembered", "err", err)
	}
}
