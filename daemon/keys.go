package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
)

// keysPath is where nodes ask each other about the cluster's keys. Who asks has
// shown that it holds one of them, and which node it is (daemon/peer).
const keysPath = "/shoal/keys/1"

// keyAsk is a step of a rotation for one node, or only the question what it holds.
type keyAsk struct {
	Do   cluster.Do `json:"do,omitempty"`   // cluster.Trust, Use or Drop; "": nothing
	ID   string     `json:"id,omitempty"`   // of Use
	Text string     `json:"text,omitempty"` // of Trust: the key
	Made time.Time  `json:"made,omitzero"`  // of Trust
	Old  []string   `json:"old,omitempty"`  // of Drop
	Tell string     `json:"tell,omitempty"` // answer with the key of that name
}

// keyAnswer is what a node holds and has in force.
type keyAnswer struct {
	Held []cluster.Held `json:"held"`
	Text string         `json:"text,omitempty"` // the key that was asked for
}

// serveKeys answers another node.
func (d *Daemon) serveKeys(from string, w http.ResponseWriter, r *http.Request) {
	var ask keyAsk
	if err := json.NewDecoder(io.LimitReader(r.Body, 16<<10)).Decode(&ask); err != nil || r.Method != http.MethodPost {
		http.Error(w, errNoStep.Error(), http.StatusBadRequest)
		return
	}
	answer, err := d.keyStep(r.Context(), from, ask)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // who went away asks again
}

var errNoStep = errors.New("want a step of a rotation in JSON")

// errKeysApart says that no keys are in force: the host is with no others.
var errKeysApart = errors.New("this host is with no others of its cluster: see `shoal members`")

// keyStep takes a step on this host, and answers when it is in force.
func (d *Daemon) keyStep(ctx context.Context, from string, ask keyAsk) (answer keyAnswer, err error) {
	d.fleet.turn.Lock()
	defer d.fleet.turn.Unlock()
	ring := d.fleet.ring.Load()
	if ring == nil {
		return answer, errKeysApart
	}
	if ask.Do != "" {
		next, err := d.writeKeys(from, ask)
		if err != nil {
			return answer, err
		}
		if err := d.awaitKeys(ctx, next); err != nil {
			return answer, err
		}
		ring = &next
	}
	answer.Held = ring.Held()
	if key, is := ring.Key(ask.Tell); is {
		answer.Text = key.Text()
	}
	return answer, nil
}

// writeKeys puts a step into the key file.
func (d *Daemon) writeKeys(from string, ask keyAsk) (next cluster.Keyring, err error) {
	path := d.path(d.Config.Cluster.KeyFile)
	ring, err := cluster.ReadKeyring(path)
	if err != nil {
		return ring, err
	}
	switch ask.Do {
	case cluster.Trust:
		key, err := cluster.ParseKey(ask.Text)
		if err != nil {
			return ring, fmt.Errorf("the new key: %w", err)
		}
		next, err = ring.Trusting(key, ask.Made)
		if err != nil {
			return ring, err
		}
	case cluster.Use:
		next, err = ring.Using(ask.ID, d.Now())
	case cluster.Drop:
		next, err = ring.Without(ask.Old)
	default:
		err = fmt.Errorf("a rotation has no step %q", ask.Do)
	}
	if err != nil || next.Equal(ring) {
		return ring, err
	}
	if err := next.Write(path); err != nil {
		return ring, err
	}
	d.Log.Info("the cluster's key file was rewritten", "for", string(ask.Do), "node", from, "keys", len(next.Held()))
	return next, nil
}

// awaitKeys has the keys of the file be in force.
func (d *Daemon) awaitKeys(ctx context.Context, next cluster.Keyring) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for wake(d.fleet.rekey); ; {
		if ring := d.fleet.ring.Load(); ring != nil && ring.Equal(next) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the keys in %s are not in force: see shoald's journal", d.Config.Cluster.KeyFile)
		}
	}
}

// askKeys has a node take a step, or say what it holds.
func (d *Daemon) askKeys(ctx context.Context, node string, ask keyAsk) (answer keyAnswer, err error) {
	if node == d.Config.Node {
		return d.keyStep(ctx, node, ask)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	body, err := json.Marshal(ask)
	if err != nil {
		return answer, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, keysPath, bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	resp, err := others{d}.RoundTrip(node, r)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	switch {
	case err != nil:
		return answer, err
	case resp.StatusCode == http.StatusNotFound:
		return answer, errors.New("its shoald is older than `shoal key rotate`: upgrade it first")
	case resp.StatusCode != http.StatusOK:
		return answer, fmt.Errorf("%s", text)
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, err
	}
	if len(answer.Held) == 0 {
		return answer, errors.New("it answers that it holds no key")
	}
	return answer, nil
}

// sealedOtherwise are the nodes in whose records something is sealed that a ring
// does not open.
func (d *Daemon) sealedOtherwise(ring cluster.Keyring) []string {
	found := make(map[string]bool)
	d.records.Read(func(records map[string]*record.Record) {
		for node, r := range records {
			for name, e := range r.Entries {
				key, err := manifests.ParseKey(name.Key)
				if err != nil || key.GroupKind() != secretKind || name.Section != record.Claims || e.Value == nil {
					continue
				}
				var c record.Claim
				if json.Unmarshal(e.Value, &c) != nil || c.Sealed == nil {
					continue
				}
				if _, err := ring.Open(key.String(), c.Sealed); err != nil {
					found[node] = true
				}
			}
		}
	})
	return slices.Sorted(maps.Keys(found))
}
