package podroute

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// KeyLife is how long a node keeps its WireGuard key. WireGuard itself makes new
// session keys every two minutes; this bounds for how long a stolen file is of use.
const KeyLife = 30 * 24 * time.Hour

// OpenKey reads this node's key, or makes one where there is none or it is
// older than KeyLife. Its file is for root alone.
func OpenKey(path string, now time.Time) (wgtypes.Key, error) {
	info, err := os.Stat(path)
	if err == nil && now.Sub(info.ModTime()) < KeyLife {
		return readKey(path, info)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wgtypes.Key{}, err
	}
	key, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		return key, fmt.Errorf("make a WireGuard key: %w", err)
	}
	tmp := path + ".new"
	_ = os.Remove(tmp)
	if err := os.WriteFile(tmp, []byte(key.String()+"\n"), 0o600); err != nil {
		return key, err
	}
	return key, errors.Join(os.Chtimes(tmp, now, now), os.Rename(tmp, path))
}

func readKey(path string, info fs.FileInfo) (wgtypes.Key, error) {
	if info.Mode().Perm()&0o077 != 0 {
		return wgtypes.Key{}, fmt.Errorf("%s can be read by others (mode %04o): chmod 600, or remove it for a new key", path, info.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return wgtypes.Key{}, err
	}
	key, err := wgtypes.ParseKey(strings.TrimSpace(string(b)))
	if err != nil {
		return key, fmt.Errorf("%s holds no WireGuard key: remove it for a new one", path)
	}
	return key, nil
}
