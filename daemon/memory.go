package daemon

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
)

// metaMemory is where the store keeps the last good versions of files. Secrets are
// among them: with a cluster key it stands there sealed, as their claims do, after
// sealedMark.
const (
	metaMemory = "manifests"
	sealedMark = "sealed:"
)

// openMemory reads it.
func (d *Daemon) openMemory() error {
	text := d.store.Meta(metaMemory)
	if text == "" {
		return nil
	}
	data := []byte(text)
	if sealed, is := strings.CutPrefix(text, sealedMark); is {
		raw, err := base64.StdEncoding.DecodeString(sealed)
		if err != nil {
			return err
		}
		if data, err = d.ring.Open(metaMemory, raw); err != nil {
			return err
		}
	}
	return json.Unmarshal(data, &d.memory)
}

// remember saves the files' last good versions when they changed.
func (d *Daemon) remember() {
	if m := d.set.Memory(); !reflect.DeepEqual(m, d.memory) {
		d.memory = m
		d.saveMemory()
	}
}

func (d *Daemon) saveMemory() {
	data, err := json.Marshal(d.memory)
	if err != nil {
		d.Log.Error("can't save the last good versions of files", "err", err)
		return
	}
	text := string(data)
	if !d.ring.IsZero() {
		text = sealedMark + base64.StdEncoding.EncodeToString(d.ring.Seal(metaMemory, data))
	}
	d.store.SaveMeta(metaMemory, text)
}
