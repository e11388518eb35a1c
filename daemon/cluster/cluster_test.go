package cluster

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func nodeKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func config(t *testing.T, r Keyring, node string, key ed25519.PrivateKey, admit func(Identity) error) *tls.Config {
	t.Helper()
	c, err := r.TLS(node, key, admit)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func anybody(Identity) error { return nil }

// meet is what each end says of a handshake, and whom the server saw.
func meet(t *testing.T, client, server *tls.Config) (saw Identity, clientErr, serverErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	done := make(chan error, 1)
	go func() {
		b, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		s := tls.Server(b, server)
		err = s.Handshake()
		if err == nil {
			saw, err = Peer(s.ConnectionState())
			_, _ = s.Write([]byte("x"))
		}
		b.Close()
		done <- err
	}()
	c := tls.Client(a, client)
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1)) // TLS 1.3: the server's refusal comes after the client's part
	}
	a.Close()
	return saw, clientErr, <-done
}

func TestHoldersOfTheKeyMeetAndSeeWhoTheOtherIs(t *testing.T) {
	ring, one, two := NewKeyring(NewKey()), nodeKey(t), nodeKey(t)
	var met Identity
	client := config(t, ring, "n1", one, func(who Identity) error { met = who; return nil })
	saw, clientErr, serverErr := meet(t, client, config(t, ring, "n2", two, anybody))
	if clientErr != nil || serverErr != nil {
		t.Fatalf("got %v, %v", clientErr, serverErr)
	}
	if saw.Node != "n1" || !saw.Key.Equal(one.Public()) || met.Node != "n2" || !met.Key.Equal(two.Public()) {
		t.Errorf("the server saw %s, the client %s", saw.Node, met.Node)
	}
}

// TestARotationIsUnnoticed: while it goes on, hosts have one key, both in either
// order, or the other one alone.
func TestARotationIsUnnoticed(t *testing.T) {
	before, after := NewKey(), NewKey()
	rings := []Keyring{NewKeyring(before), NewKeyring(before, after), NewKeyring(after, before), NewKeyring(after)}
	for i, a := range rings {
		for j, b := range rings {
			_, clientErr, serverErr := meet(t, config(t, a, "n1", nodeKey(t), anybody), config(t, b, "n2", nodeKey(t), anybody))
			met := clientErr == nil && serverErr == nil
			if apart := i - j; met != (apart >= -1 && apart <= 1) {
				t.Errorf("step %d meets step %d: %v (%v, %v)", i, j, met, clientErr, serverErr)
			}
		}
	}
}

func TestStrangersAreRefused(t *testing.T) {
	key := NewKey()
	ring := NewKeyring(key)
	other := config(t, NewKeyring(NewKey()), "n1", nodeKey(t), anybody)
	none := other.Clone()
	none.Certificates = nil
	ca, signer, err := key.authority()
	if err != nil {
		t.Fatal(err)
	}
	asAuthority := other.Clone()
	asAuthority.Certificates = []tls.Certificate{{Certificate: [][]byte{ca.Raw}, PrivateKey: signer}}
	// The name and certificate of a member, without its node's key.
	member := config(t, ring, "n3", nodeKey(t), anybody).Certificates[0]
	stolen := other.Clone()
	stolen.Certificates = []tls.Certificate{{Certificate: member.Certificate, PrivateKey: nodeKey(t)}}
	unnamed := other.Clone()
	mine := nodeKey(t)
	leaf, err := certify(&x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{}, NotBefore: since, NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, mine.Public().(ed25519.PublicKey), signer)
	if err != nil {
		t.Fatal(err)
	}
	unnamed.Certificates = []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: mine}}
	old := config(t, ring, "n1", nodeKey(t), anybody).Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, client := range map[string]*tls.Config{
		"another cluster's key": other, "no certificate": none, "the authority's own": asAuthority,
		"another's certificate": stolen, "no name": unnamed, "TLS 1.2": old,
	} {
		client.InsecureSkipVerify, client.VerifyConnection = true, nil // it would talk to anybody
		_, clientErr, serverErr := meet(t, client, config(t, ring, "n2", nodeKey(t), anybody))
		if serverErr == nil || clientErr == nil {
			t.Errorf("%s: the server says %v, the client %v", name, serverErr, clientErr)
		}
	}
	_, clientErr, _ := meet(t, config(t, ring, "n2", nodeKey(t), anybody), other)
	if !errors.Is(clientErr, ErrNotMember) {
		t.Errorf("a client that called a stranger says %v", clientErr)
	}
}

func TestANameBelongsToTheKeyItWasFirstSeenWith(t *testing.T) {
	var saved string
	pins, err := OpenPins("", func(text string) { saved = text })
	if err != nil {
		t.Fatal(err)
	}
	first, second := nodeKey(t).Public().(ed25519.PublicKey), nodeKey(t).Public().(ed25519.PublicKey)
	if err := pins.Admit(Identity{"n1", first}); err != nil {
		t.Fatal(err)
	}
	pins, err = OpenPins(saved, func(text string) { saved = text })
	if err != nil {
		t.Fatal(err)
	}
	if err := pins.Admit(Identity{"n1", first}); err != nil {
		t.Errorf("the same again: %v", err)
	}
	var taken *PinError
	if err := pins.Admit(Identity{"n1", second}); !errors.As(err, &taken) || !strings.Contains(err.Error(), "shoal node forget n1") {
		t.Errorf("another one: %v", err)
	}
	pins.Forget("n1")
	if err := pins.Admit(Identity{"n1", second}); err != nil || !pins.Key("n1").Equal(second) {
		t.Errorf("after forgetting: %v", err)
	}
	if _, err := OpenPins("{", nil); err == nil {
		t.Error("damaged pins are taken for none")
	}
}

func TestKeyFiles(t *testing.T) {
	one, two := NewKey(), NewKey()
	for _, tt := range []struct {
		name, text string
		mode       os.FileMode
		want       string // of the error; "" for none
	}{
		{"one", one.Text() + "\n", 0o600, ""},
		{"a rotation's", "# in use\n" + one.Text() + "\r\n\n  " + two.Text() + "  ", 0o400, ""},
		{"empty", "\n# nothing\n", 0o600, ":1: there is no key in it"},
		{"for all to read", one.Text(), 0o640, "chmod 0600"},
		{"no base64", "\nsecret word\n", 0o600, ":2: want a key of 32 bytes"},
		{"short", "c2hvcnQ=", 0o600, ":1: want a key of 32 bytes"},
		{"twice", one.Text() + "\n" + one.Text(), 0o600, ":2: this key is there twice"},
	} {
		path := filepath.Join(t.TempDir(), "cluster.key")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		ring, err := ReadKeyring(path)
		switch {
		case tt.want == "" && (err != nil || ring.keys[0] != one):
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret")):
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := ReadKeyring("/nowhere/cluster.key"); !errors.Is(err, ErrNoKey) {
		t.Errorf("none: %v", err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", one, one, one, NewKeyring(one)); strings.Contains(text, one.Text()) || strings.Contains(text, fmt.Sprint(one[0])+" "+fmt.Sprint(one[1])) {
		t.Errorf("a key prints itself: %s", text)
	}
	ring := NewKeyring(one, two)
	if g := ring.Gossip(); len(g) != 2 || len(g[0]) != 32 || bytes.Equal(g[0], g[1]) || bytes.Equal(g[0], one[:]) {
		t.Error("the gossip keys are not keys of their own")
	}
}
