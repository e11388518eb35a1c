package warden

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/identity"
	"github.com/shoal-project/shoal/daemon/lease"
)

// calls opens a connection to a host as node, with a key and a cluster key of
// the caller's choice.
func calls(t *testing.T, to *box, node string, key ed25519.PrivateKey, ring cluster.Keyring, protocol string) (*tls.Conn, error) {
	t.Helper()
	config, err := ring.TLS(node, key, func(cluster.Identity) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	config.NextProtos = []string{protocol}
	raw, err := net.Dial("tcp", to.address)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = raw.Close() })
	if err := raw.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, config)
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	// The server's refusal comes after the client believes that all is well.
	if protocol == askProtocol {
		_, err = posts(c, pathReport, nil)
	}
	return c, err
}

func posts(c net.Conn, path string, in any) (r reply, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return r, err
	}
	req, err := http.NewRequest(http.MethodPost, "http://host"+path, bytes.NewReader(body))
	if err == nil {
		err = req.Write(c)
	}
	if err != nil {
		return r, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return r, fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	return r, json.NewDecoder(resp.Body).Decode(&r)
}

func TestWhoIsNotAMemberGetsNothingAndAMemberOnlyItsOwn(t *testing.T) {
	b := newBed(t)
	n1, n2 := b.add("n1"), b.add("n2")
	n1.start()
	b.holds(n1)
	ring, err := cluster.ReadKeyring(b.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.Open(n2.identity)
	if err != nil {
		t.Fatal(err)
	}
	_, another, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, node string
		key        ed25519.PrivateKey
		ring       cluster.Keyring
	}{
		{"another cluster's key", "n2", key, cluster.NewKeyring(cluster.NewKey())},
		{"a name that the daemon does not know", "n9", another, ring},
		{"a member's name with another key", "n2", another, ring},
		{"this host's own name with another key", "n1", another, ring},
	} {
		if _, err := calls(t, n1, test.node, test.key, test.ring, askProtocol); err == nil {
			t.Errorf("%s was answered", test.name)
		}
	}

	c, err := calls(t, n1, "n2", key, ring, askProtocol)
	if err != nil {
		t.Fatal(err)
	}
	epoch := n1.stands().Lease.Epoch
	for _, test := range []struct {
		path string
		in   any
	}{
		{pathLease, lease.Request{Do: lease.Resign, Renewal: lease.Renewal{Node: "n1", Epoch: epoch}}},
		{pathLease, lease.Request{Do: lease.Register, Renewal: lease.Renewal{Node: "n1", Session: "s"}, Lease: lease.Default.Lease}},
		{pathLease, lease.Request{Do: lease.Fence, Renewal: lease.Renewal{Node: "n2", Epoch: epoch}}},
		{pathClaim, lease.Command{Do: lease.Acquire, Node: "n1", Epoch: epoch, Key: "k", Try: 1}},
		{pathClaim, lease.Command{Do: lease.Fence, Node: "n2", Epoch: epoch, Term: 2}},
		{pathClaim, "no command"},
		{"/else", nil},
	} {
		if r, err := posts(c, test.path, test.in); err != nil || r.Error == "" {
			t.Errorf("%s %+v: got %+v, %v", test.path, test.in, r, err)
		}
	}
	if got := n1.stands().Lease.Epoch; got != epoch {
		t.Errorf("the epoch was %d, is %d", epoch, got)
	}
}

func TestAWitnessHearsOnlyThoseOfItsLog(t *testing.T) {
	b := newBed(t)
	n1, n2 := b.add("n1"), b.add("n2")
	n1.start()
	b.holds(n1)
	ring, err := cluster.ReadKeyring(b.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.Open(n2.identity)
	if err != nil {
		t.Fatal(err)
	}
	self := n1.stands().Self
	me := idOf("n1", self.Store)
	for _, test := range []struct{ line, want string }{
		{line(hello{Log: self.Log, From: "n1/x", To: me}), "node n2 speaks as witness"},
		{line(hello{Log: "other", From: "n2/x", To: me}), "this host has the witnesses' log " + self.Log},
		{line(hello{Log: self.Log, From: "n2/x", To: "n1/lost"}), "witness n1/lost is no more"},
		{"no JSON\n", ""},
		{strings.Repeat("x", 2*mostHello), ""},
		{line(hello{Log: self.Log, From: "n2/x", To: me}), "\n"},
	} {
		c, err := calls(t, n1, "n2", key, ring, raftProtocol)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(test.line)); err != nil {
			t.Fatal(err)
		}
		got, err := bufio.NewReader(c).ReadString('\n')
		if test.want == "" && err == nil || !strings.Contains(got, test.want) {
			t.Errorf("%.60q: got %q, %v, want %q", test.line, got, err, test.want)
		}
	}
}

func line(h hello) string {
	text, err := json.Marshal(h)
	if err != nil {
		panic(err) // of strings
	}
	return string(text) + "\n"
}

func TestAForgottenHostIsHeardNoMore(t *testing.T) {
	b := newBed(t)
	n1, n2 := b.add("n1"), b.add("n2")
	n1.start()
	b.holds(n1)
	ring, err := cluster.ReadKeyring(b.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.Open(n2.identity)
	if err != nil {
		t.Fatal(err)
	}
	var c *tls.Conn
	b.eventually("n1 to know n2", func() (err error) {
		c, err = calls(t, n1, "n2", key, ring, askProtocol)
		return err
	})
	b.mu.Lock()
	delete(b.hosts, "n2")
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b.eventually("n2 to be refused on its old connection", func() error {
		if _, err := posts(c, pathReport, nil); err == nil {
			return fmt.Errorf("it is answered")
		}
		return ctx.Err()
	})
}
