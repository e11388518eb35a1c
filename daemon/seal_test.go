package daemon

import (
	"bytes"
	"encoding/base64"
	"os"
	"reflect"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
)

// TestWhatSecretsHoldIsSealedInRecords: it is neither on disks nor on its way in
// the clear, nor are hashes of it; who has the key sees it, also while keys are
// rotated, which is no edit.
func TestWhatSecretsHoldIsSealedInRecords(t *testing.T) {
	h := openHosts(t, "n1", "n2", "n3")
	n1, n2, n3 := h.nodes[0], h.nodes[1], h.nodes[2]
	old, next := cluster.NewKey(), cluster.NewKey()
	n1.ring, n2.ring = cluster.NewKeyring(old), cluster.NewKeyring(old)
	key := manifests.Key{Kind: "Secret", Namespace: "x", Name: "a"}
	text := func(value string) string {
		return "apiVersion: v1\nkind: Secret\nmetadata: {namespace: x, name: a}\nstringData: {k: " + value + "}\n"
	}
	says := func(what string, f *files, want string) {
		t.Helper()
		got := "none"
		if o, ok := f.view.Get(key); ok {
			got = string(o.(*v1.Secret).Data["k"])
		}
		if got != want {
			t.Errorf("%s: %s has %q, want %q", what, f.Config.Node, got, want)
		}
	}
	n1.write("a.yaml", text("correct-horse"))
	n1.scan()
	n1.write("a.yaml", text("battery-staple"))
	n1.now = n1.now.Add(settle)
	n1.scan()
	h.meet()
	says("declared", n1, "battery-staple")
	says("heard", n2, "battery-staple")
	says("without the key", n3, "none")
	said := string(n3.valueOf("n1", key))
	for _, f := range h.nodes {
		if err := f.Daemon.store.Flush(); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(f.store())
		if err != nil {
			t.Fatal(err)
		}
		for _, plain := range []string{"battery-staple", base64.StdEncoding.EncodeToString([]byte("battery-staple"))} {
			if bytes.Contains(data, []byte(plain)) || strings.Contains(said, plain) {
				t.Errorf("%s keeps %s in the clear", f.Config.Node, plain)
			}
		}
	}
	for _, e := range n1.claimsOn(key)["n1"].History {
		if strings.Contains(said, e.Hash) {
			t.Errorf("a hash of the content is in the clear: %s", said)
		}
	}
	before := n1.claimsOn(key)["n1"]
	seq := n1.seq()
	n1.useKeys(cluster.NewKeyring(old))
	n1.look()
	if n1.seq() != seq {
		t.Error("the same key again, and the record changes")
	}
	n2.useKeys(cluster.NewKeyring(old, next))
	n1.useKeys(cluster.NewKeyring(next, old))
	n1.look()
	h.meet()
	if string(n3.valueOf("n1", key)) == said {
		t.Error("the key is another, and the record the same")
	}
	if after := n1.claimsOn(key)["n1"]; after.Edited != before.Edited || after.Generation != before.Generation || len(after.History) != len(before.History) {
		t.Errorf("another key made an edit of it: %+v, before it was %+v", after, before)
	}
	says("amid a rotation", n2, "battery-staple")
	n3.useKeys(cluster.NewKeyring(next))
	says("given the key", n3, "battery-staple")

	// The last good versions of files are sealed too, and with the key of now.
	if err := n1.Daemon.store.Flush(); err != nil {
		t.Fatal(err)
	}
	n1.memory = manifests.Memory{}
	n1.ring = cluster.NewKeyring(old)
	if err := n1.openMemory(); err == nil {
		t.Error("a key that is not in use any more opens the last good versions of files")
	}
	n1.ring = cluster.NewKeyring(next)
	if err := n1.openMemory(); err != nil || reflect.DeepEqual(n1.memory, manifests.Memory{}) {
		t.Errorf("the last good versions of files: %v, %v", n1.memory, err)
	}
}

// valueOf is what a node's record claims, as this host has it.
func (f *files) valueOf(node string, key manifests.Key) (value []byte) {
	f.records.Read(func(all map[string]*record.Record) { value = all[node].Entries[claimName(key)].Value })
	return value
}
