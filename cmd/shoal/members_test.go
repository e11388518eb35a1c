package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/cluster"
)

func TestAKeyIsMadeForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	streams, _, out, _ := genericiooptions.NewTestIOStreams()
	make := func(args ...string) error {
		c := newKeygen(streams)
		c.SetArgs(args)
		c.SilenceErrors, c.SilenceUsage = true, true
		return c.Execute()
	}
	if err := make("--out", path); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.ReadKeyring(path); err != nil {
		t.Error(err)
	}
	before, _ := os.ReadFile(path)
	if err := make("--out", path); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("a second key in its place: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the key is another one")
	}
	if err := make(); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.ParseKeyring(out.Bytes()); err != nil {
		t.Errorf("what is printed: %v", err)
	}
}

func TestMembersInWords(t *testing.T) {
	now := time.Unix(1e9, 0)
	zero, three := uint64(0), uint64(3)
	var b bytes.Buffer
	printMembers(&b, api.MemberList{Cluster: "c1", Settled: true, Fleet: true, Problems: []string{"two hosts claim the name n9"}, Members: []api.Member{
		{Name: "n1", Self: true, Status: "alive", Ready: true, Since: now.Add(-time.Hour), Address: "192.0.2.1:7946", Version: "1", Seq: 7, Behind: &zero, Lags: &zero},
		{Name: "n2", Status: "alive", Since: now.Add(-time.Minute), Address: "192.0.2.2:7946", Version: "1", Seq: 5, Behind: &three, Lags: &zero},
		{Name: "n3", Status: "unseen", Seq: 9},
	}}, now)
	want := `NAME        STATUS             SINCE   ADDRESS          VERSION   RECORD   BEHIND   LAGS
n1 (this)   alive              60m     192.0.2.1:7946   1         7        0        0
n2          alive, not ready   60s     192.0.2.2:7946   1         5        3        0
n3          unseen                                                9        -        -

Cluster c1
PROBLEM: two hosts claim the name n9
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	printMembers(&b, api.MemberList{Members: []api.Member{{Name: "n1", Self: true, Status: "alive", Ready: true}}}, now)
	if !strings.Contains(b.String(), "a cluster of its own") {
		t.Errorf("got %s", b.String())
	}
}
