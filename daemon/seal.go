package daemon

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
)

var secretKind = manifests.Key{Kind: "Secret"}.GroupKind()

// claimValue is a claim as it stands in the record. What a Secret declares, and
// the hashes of what it declared, are sealed with the cluster's key, if there is
// one: records lie on disks, and pass through other nodes.
func (d *Daemon) claimValue(key manifests.Key, c record.Claim) (json.RawMessage, error) {
	if key.GroupKind() != secretKind || d.ring.IsZero() {
		return json.Marshal(c)
	}
	history, err := json.Marshal(c.History)
	if err != nil {
		return nil, err
	}
	c.SealedHistory = d.ring.Seal(key.String()+" history", history)
	if c.Declared != nil {
		c.Sealed = d.ring.Seal(key.String(), c.Declared)
	}
	c.Declared, c.History = nil, nil
	return json.Marshal(c)
}

// readClaim is the inverse of claimValue.
func (d *Daemon) readClaim(key manifests.Key, value json.RawMessage) (c record.Claim, err error) {
	if err := json.Unmarshal(value, &c); err != nil {
		return c, err
	}
	if c.Sealed != nil {
		if c.Declared, err = d.ring.Open(key.String(), c.Sealed); err != nil {
			return c, err
		}
	}
	if c.SealedHistory != nil {
		history, err := d.ring.Open(key.String()+" history", c.SealedHistory)
		if err == nil {
			err = json.Unmarshal(history, &c.History)
		}
		if err != nil {
			return c, fmt.Errorf("its history: %w", err)
		}
	}
	c.Sealed, c.SealedHistory = nil, nil
	return c, nil
}

// openKeys takes the cluster's keys as they are at the start. What is wrong with
// them is told by who needs them to reach the others.
func (d *Daemon) openKeys() {
	if d.Config.Cluster.KeyFile == "" {
		return
	}
	ring, err := cluster.ReadKeyring(d.path(d.Config.Cluster.KeyFile))
	if err == nil {
		d.ring = ring
	} else if !errors.Is(err, cluster.ErrNoKey) {
		d.Log.Warn("the cluster's key can't be read: what is sealed with it is not known here", "err", err)
	}
}

// useKeys has what is sealed be sealed with these keys, and opens what could not
// be opened without.
func (d *Daemon) useKeys(ring cluster.Keyring) {
	if ring.Equal(d.ring) {
		return
	}
	d.ring = ring
	d.saveMemory()
	secrets := make(map[manifests.Key]bool)
	d.records.Read(func(records map[string]*record.Record) {
		for _, r := range records {
			for name := range r.Entries {
				if key, err := manifests.ParseKey(name.Key); err == nil && key.GroupKind() == secretKind {
					secrets[key] = true
				}
			}
		}
	})
	keys := make([]manifests.Key, 0, len(secrets))
	for key := range secrets {
		keys = append(keys, key)
		delete(d.claimed, key)
	}
	d.fold(keys)
	d.rescan()
}
