package gossip

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

func TestJoinEntries(t *testing.T) {
	for entry, want := range map[string]string{
		"10.0.0.1": "10.0.0.1 7946", "10.0.0.1:99": "10.0.0.1 99", "host-1.lan": "host-1.lan 7946", "host:65535": "host 65535",
		"fd00::1": "fd00::1 7946", "[fd00::1]": "fd00::1 7946", "[fd00::1]:80": "fd00::1 80", "fe80::1%eth0": "fe80::1%eth0 7946",
		"": "refused", "host:": "refused", "host:0": "refused", "host:65536": "refused", ":7946": "refused", "a:b:c": "refused",
		"name/10.0.0.1:1": "refused", "a b": "refused",
	} {
		host, port, err := splitJoin(entry)
		got := fmt.Sprint(host, " ", port)
		if err != nil {
			got = "refused"
		}
		if got != want {
			t.Errorf("%q: got %s, want %s (%v)", entry, got, want, err)
		}
	}
}

func TestPausesGrowToALimitAndDiffer(t *testing.T) {
	for _, c := range []struct {
		tries int
		luck  float64
		want  time.Duration
	}{{0, 0, 500 * time.Millisecond}, {0, 1, time.Second}, {2, 0.5, 3 * time.Second}, {4, 1, 15 * time.Second}, {1 << 40, 1, 15 * time.Second}} {
		if got := pause(c.tries, c.luck); got != c.want {
			t.Errorf("after %d tries: %s, want %s", c.tries, got, c.want)
		}
	}
}

func TestTargetsLeaveOutThisHostAndWhoIsAlive(t *testing.T) {
	a := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	got := targets([]netip.AddrPort{a("10.0.0.1:1"), a("10.0.0.2:1"), a("10.0.0.3:1"), a("10.0.0.4:1"), a("10.0.0.4:1")}, a("10.0.0.1:1"),
		[]Member{{Addr: a("10.0.0.2:1"), Status: Alive}, {Addr: a("10.0.0.3:1"), Status: Failed}})
	if want := []netip.AddrPort{a("10.0.0.3:1"), a("10.0.0.4:1")}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFollowTellsWhatChangedAndKeepsSince(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	said := func(name string, s serf.MemberStatus, tag string) serf.Member {
		return serf.Member{Name: name, Addr: net.IPv4(10, 0, 0, 1), Port: 7946, Status: s, Tags: map[string]string{"t": tag}}
	}
	show := func(changes []Member) (s string) {
		for _, m := range changes {
			s += fmt.Sprintf("%s %s since %d tag %s; ", m.Name, m.Status, m.Since.Unix(), m.Tags["t"])
		}
		return s
	}
	known, changes := follow(nil, []serf.Member{said("b", serf.StatusAlive, ""), said("a", serf.StatusAlive, "")}, at(1))
	for i, step := range []struct {
		said []serf.Member
		want string
	}{
		{nil, "a alive since 1 tag ; b alive since 1 tag ; "},
		{[]serf.Member{said("a", serf.StatusAlive, ""), said("b", serf.StatusAlive, "")}, ""},
		{[]serf.Member{said("a", serf.StatusAlive, "x"), said("b", serf.StatusLeaving, "")}, "a alive since 1 tag x; b leaving since 3 tag ; "},
		{[]serf.Member{said("a", serf.StatusFailed, "x"), said("b", serf.StatusLeft, "")}, "a failed since 4 tag x; b left since 4 tag ; "},
		{[]serf.Member{said("a", serf.StatusFailed, "x")}, "b left since 5 tag ; "},
		{[]serf.Member{said("a", serf.StatusAlive, "x")}, "a alive since 6 tag x; "},
	} {
		if i > 0 {
			known, changes = follow(known, step.said, at(i+1))
		}
		if got := show(changes); got != step.want {
			t.Errorf("step %d: got %q, want %q", i, got, step.want)
		}
	}
}

func TestLibraryLinesAreSortedOut(t *testing.T) {
	for line, want := range map[string]string{
		"[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=10.0.0.9:7946":   "WARN a packet or stream that none of the cluster's keys opens was dropped: Decrypt packet failed: no installed keys could decrypt the message from=10.0.0.9:7946",
		"[WARN] memberlist: Was able to connect to n2 over TCP but UDP probes failed, network may be misconfigured": "WARN Was able to connect to n2 over TCP but UDP probes failed, network may be misconfigured",
		"[INFO] memberlist: Suspect n2 has failed, no acks received":                                                "DEBUG Suspect n2 has failed, no acks received",
		"[INFO] serf: EventMemberJoin: n2 10.0.0.2":                                                                 "",
		"[WARN] memberlist: Refuting an alive message for 'n1' (10.0.0.1:7946) meta:([255] VS [255])":               "",
		"Err: Could not set the deadline: closed":                                                                   "WARN Err: Could not set the deadline: closed",
		"": "",
	} {
		level, text, is := readLine(line)
		got := level.String() + " " + text
		if !is {
			got = ""
		}
		if got != want {
			t.Errorf("%s\ngot  %q\nwant %q", line, got, want)
		}
	}
}

func TestLinesOfOneKindComeOnceAMinute(t *testing.T) {
	now := time.Unix(0, 0).UTC()
	var b strings.Builder
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	a := &logAdapter{to: log, now: func() time.Time { return now }}
	for i := range 100 {
		fmt.Fprintf(a, "[ERR] memberlist: Failed to send gossip to 10.0.0.%d:7946: x\n", i)
		now = now.Add(time.Second)
	}
	for i := range 1000 { // kinds that somebody makes up do not grow without end
		fmt.Fprintf(a, "[ERR] memberlist: %s\n", strings.Repeat("x", i))
	}
	want := `level=WARN msg="gossip: Failed to send gossip to 10.0.0.0:7946: x" left_out=0
level=WARN msg="gossip: Failed to send gossip to 10.0.0.60:7946: x" left_out=59
`
	if got := b.String(); !strings.HasPrefix(got, want) || strings.Count(got, "Failed to send") != 2 {
		t.Errorf("got %.300s", got)
	}
	if len(a.kinds) > logKinds+1 {
		t.Errorf("%d kinds are remembered", len(a.kinds))
	}
}

// The room for tags is Serf's own: what we let through it takes, to the byte.
func TestTagsSizeIsSerfs(t *testing.T) {
	for _, texts := range []int{1, 15, 16, 30} {
		tags := make(map[string]string)
		for i := range texts {
			tags[fmt.Sprintf("k%02d", i)] = "v"
		}
		for tags["k00"] = "v"; tagsSize(tags) < TagRoom; tags["k00"] += "v" {
		}
		over := maps.Clone(tags)
		over["k00"] += "v"
		if err := checkTags(tags); err != nil {
			t.Errorf("%d tags of %d bytes: %v", texts, tagsSize(tags), err)
		}
		if checkTags(over) == nil {
			t.Errorf("%d tags of %d bytes were let through", texts, tagsSize(over))
		}
		if err := serfTakes(t, tags); err != nil {
			t.Errorf("Serf refuses %d tags of %d bytes: %v", texts, tagsSize(tags), err)
		}
		if serfTakes(t, over) == nil {
			t.Errorf("Serf takes %d tags of %d bytes", texts, tagsSize(over))
		}
	}
}

// serfTakes is what Serf's constructor says of tags.
func serfTakes(t *testing.T, tags map[string]string) error {
	t.Helper()
	c := Config{Name: "n1", Tags: tags}.withDefaults()
	keys, err := newKeyring([][]byte{make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort("127.7.1.1:1")
	sc := c.serfConfig(at, keys, slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelDebug))
	sc.MemberlistConfig.Transport = deaf{}
	s, err := serf.Create(sc)
	if err == nil {
		s.Shutdown()
	}
	return err
}

// deaf is a transport to nowhere.
type deaf struct{ memberlist.NodeAwareTransport }

func (deaf) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IPv4(127, 7, 1, 1), 1, nil
}
func (deaf) PacketCh() <-chan *memberlist.Packet { return nil }
func (deaf) StreamCh() <-chan net.Conn           { return nil }
func (deaf) Shutdown() error                     { return nil }

// Conflicts, the state of members that a host brings, and messages that Serf
// would answer are seen only if memberlist calls us, and not Serf alone.
func TestSerfLeavesRoomForOurDelegates(t *testing.T) {
	g, err := Start(Config{
		Name: "n1", Advertise: netip.MustParseAddrPort("127.7.1.1:1"), Keys: [][]byte{make([]byte, 32)}, Transport: deaf{},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Shutdown()
	field := reflect.ValueOf(g.serf.Memberlist()).Elem().FieldByName("config") // memberlist shows it to nobody
	conf := *(**memberlist.Config)(field.Addr().UnsafePointer())
	if conf.Conflict != memberlist.ConflictDelegate(&g.meet) {
		t.Errorf("conflicts go to %T", conf.Conflict)
	}
	if m, is := conf.Merge.(merging); !is || m.serf == nil {
		t.Errorf("merges go to %T", conf.Merge)
	}
	if d, is := conf.Delegate.(noQueries); !is || d.Delegate == nil {
		t.Errorf("messages go to %T", conf.Delegate)
	}
	if conf.Alive == nil || conf.Keyring != g.keys || !conf.GossipVerifyIncoming {
		t.Error("members are not asked about, or packets not verified")
	}
}

func TestASnapshotThatCannotBeReadCostsOnlyTheMemory(t *testing.T) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	path := filepath.Join(t.TempDir(), "peers.json")
	peers := []peer{{"n2", netip.MustParseAddrPort("[fd00::2]:7946")}}
	if err := writePeers(path, peers); err != nil {
		t.Fatal(err)
	}
	if got := readPeers(path, quiet); !reflect.DeepEqual(got, peers) {
		t.Errorf("got %v, want %v", got, peers)
	}
	for _, text := range []string{"", "{", `{"version":2,"peers":[]}`, `{"version":1,"peers":[{"name":"x","addr":"y"}]}`, `{"version":1,"peers":[{"name":"x"}]}`, "\x00\xff"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := readPeers(path, quiet); len(got) != 0 {
			t.Errorf("%q: got %v", text, got)
		}
	}
	if got := readPeers(filepath.Join(path, "no", "such"), quiet); got != nil {
		t.Errorf("got %v", got)
	}
	if err := writePeers(filepath.Join(path, "no", "such"), peers); err == nil {
		t.Error("a file below a file was written")
	}
}

func TestWhatIsNotSealedDoesNotReachMemberlist(t *testing.T) {
	good := append([]byte{sealedVersion}, make([]byte, sealedLeast)...)
	if !sealedPacket(good) {
		t.Error("a sealed packet is dropped")
	}
	for _, bad := range [][]byte{nil, {1}, make([]byte, 100), good[:sealedLeast-1], append([]byte{2}, good...)} {
		if sealedPacket(bad) {
			t.Errorf("a packet that begins with %v is let through", bad[:min(1, len(bad))])
		}
	}
	for head, want := range map[string]string{
		"\x0a\x00\x00\x00\x1e\x01": "",
		"\x0a\x00\x00\x00\x1e\x00": "the stream is encrypted in a way (0) that no member uses",
		"\x0a\x00\x00\x00\x1d\x01": "a stream of 29 bytes: no full exchange has so many",
		"\x0a\xff\x00\x00\x00\x01": "a stream of 4278190080 bytes: no full exchange has so many",
		"\x06\x00\x00\x00\x1e\x01": "the stream is not encrypted",
	} {
		got := ""
		if err := checkStream([]byte(head)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", head, got, want)
		}
	}
}
