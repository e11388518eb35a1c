package warden

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/shoal-project/shoal/daemon/tenure"
)

// disk is what a host knows of its own place among the witnesses, beside raft's
// own files.
type disk struct {
	// Store is random: a disk that was lost takes it with it, and so the vote.
	Store string `json:"store"`
	// Log names the witnesses' log that raft's files are of; "": there is none.
	Log string `json:"log,omitempty"`
	// Removed is that the others have taken this host's seat away. Its files stay:
	// with them it may have the same seat again.
	Removed bool `json:"removed,omitempty"`
}

func (w *Warden) hostFile() string { return filepath.Join(w.config.Dir, "host.json") }

func diskFile(dir string) string { return filepath.Join(dir, "witness.json") }

// readDisk makes a new one where there is none. One that can't be read is an
// error: a new one over raft's old files would be a vote that is cast twice.
func readDisk(dir string) (d disk, err error) {
	data, err := os.ReadFile(diskFile(dir))
	_, logErr := os.Stat(filepath.Join(dir, logFile))
	switch {
	case errors.Is(err, fs.ErrNotExist) && logErr == nil:
		return d, fmt.Errorf("%s is gone, but there is a witness' log beside it: bring it back from a backup, or remove %s, which gives up this host's vote", diskFile(dir), dir)
	case errors.Is(err, fs.ErrNotExist):
		return disk{}.empty(dir)
	case err == nil:
		err = json.Unmarshal(data, &d)
	}
	if err == nil && d.Store == "" {
		err = errors.New("it names no store")
	}
	if err != nil {
		return d, fmt.Errorf("%s: %w (remove %s: that gives up this host's vote)", diskFile(dir), err, dir)
	}
	// Without its log the store is a new one. A log without a name is what was
	// given up when the power was cut.
	if (d.Log == "") != (logErr != nil) {
		return d.empty(dir)
	}
	return d, nil
}

// logFile is daemon/witness' name for raft's log.
const logFile = "raft.db"

func (d disk) write(dir string) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return replace(diskFile(dir), data)
}

// empty gives the disk another name, and removes raft's files.
func (d disk) empty(dir string) (disk, error) {
	next := disk{Store: newName()}
	if err := next.write(dir); err != nil {
		return d, err
	}
	for _, name := range []string{logFile, "snapshots"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return next, fmt.Errorf("give up the witnesses' log: %w", err)
		}
	}
	return next, nil
}

func (d disk) witness(s *seat) tenure.Witness {
	t := tenure.Witness{Store: d.Store}
	if !d.Removed {
		t.Log = d.Log
	}
	if s != nil && !d.Removed {
		t.Seats = s.count
	}
	return t
}

// newName is random, and short: it travels in gossip.
func newName() string { return strings.ToLower(rand.Text()[:13]) }

// replace writes a file so that there is the old one or the new one after a power cut.
func replace(path string, data []byte) error {
	f, err := os.OpenFile(path+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".part", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
