package daemon

import (
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/agent"
	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/daemon/record"
)

// The record is written some milliseconds after a decision: a daemon that was
// killed in between finds pods running that it does not know.
func TestPodsThatRunAreAdopted(t *testing.T) {
	dir := t.TempDir()
	store, err := record.Open(filepath.Join(dir, "store.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	run := filepath.Join(dir, "pods")
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	pins, err := cluster.OpenPins("", func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{
		Options: Options{Config: &config.Config{Node: "n1"}, Log: slog.New(slog.DiscardHandler)},
		clock:   record.NewClock(time.Now), store: store, records: peer.NewSet(peer.SetConfig{Node: "n1", Key: key, Pins: pins, Alone: true, Now: time.Now}),
		agent: agent.New(t.Context(), agent.Config{Run: run, Logger: slog.New(slog.DiscardHandler)}),
	}
	pod := func(name string, uid types.UID, label string) *v1.Pod {
		p := &v1.Pod{}
		p.Namespace, p.Name, p.UID, p.Labels, p.Spec.NodeName = "default", name, uid, map[string]string{"of": label}, "n1"
		return p
	}
	for _, p := range []*v1.Pod{pod("replaced", "old", "record"), pod("same", "same", "record"), pod("waiting", "waiting", "record")} {
		value, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		d.records.Publish(d.clock.Now(), map[record.Name]json.RawMessage{{Section: record.Decisions, Key: podKey(p).String()}: value})
	}
	for _, p := range []*v1.Pod{pod("replaced", "new", "host"), pod("same", "same", "host"), pod("unknown", "unknown", "host")} {
		state, err := json.Marshal(map[string]any{"format": 1, "pod": p})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(run, string(p.UID)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(run, string(p.UID), "state.json"), state, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.adopt(); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, key := range d.records.OwnKeys(record.Decisions) {
		name := record.Name{Section: record.Decisions, Key: key}
		var p v1.Pod
		if err := json.Unmarshal(d.own(name), &p); err != nil {
			t.Fatal(name, err)
		}
		got[p.Name] = string(p.UID) + " as the " + p.Labels["of"] + " has it"
	}
	want := map[string]string{
		"replaced": "new as the host has it", "same": "same as the record has it",
		"unknown": "unknown as the host has it", "waiting": "waiting as the record has it",
	}
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s: %s, want %s", name, got[name], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
}
