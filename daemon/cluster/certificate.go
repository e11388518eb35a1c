package cluster

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Certificates are good for ever (RFC 5280, 4.1.2.5): who holds the cluster's
// key can make one at any time, and hosts whose clocks are a day apart are to
// understand each other. What ends them is the key's rotation.
var (
	since = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	until = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// Identity is who is at the other end of a stream.
type Identity struct {
	Node string
	Key  ed25519.PublicKey
}

// authority is the certificate authority that follows from a key. Every holder
// of the key makes the same.
func (k Key) authority() (*x509.Certificate, ed25519.PrivateKey, error) {
	key := ed25519.NewKeyFromSeed(k.derive("authority"))
	public := key.Public().(ed25519.PublicKey)
	id := sha256.Sum256(public)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shoal cluster"}, SubjectKeyId: id[:20],
		NotBefore: since, NotAfter: until, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cert, err := certify(template, template, public, key)
	return cert, key, err
}

func certify(template, parent *x509.Certificate, public ed25519.PublicKey, signer ed25519.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// TLS is how this node meets its peers: both ends show that they hold one of
// the cluster's keys and the key of the node that they say they are, and admit
// decides about that node: an error ends the handshake. TLS 1.3 alone.
//
// The same configuration serves both ends. It does not follow the keyring:
// after a rotation, ask again.
func (r Keyring) TLS(node string, key ed25519.PrivateKey, admit func(Identity) error) (*tls.Config, error) {
	trusted, err := r.authorities()
	if err != nil {
		return nil, err
	}
	mine, err := r.certificate(node, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{mine},
		ClientAuth:   tls.RequireAnyClientCert, // both are checked below, where neither a host name nor a clock matters
		// A node is called at an address and known by its name afterwards.
		InsecureSkipVerify:     true,
		SessionTicketsDisabled: true, // a resumed session would not see a key that was dropped
		VerifyConnection: func(state tls.ConnectionState) error {
			who, err := identify(state, trusted)
			if err != nil {
				return err
			}
			return admit(who)
		},
	}, nil
}

// authorities are those that the ring's keys make.
func (r Keyring) authorities() (*x509.CertPool, error) {
	trusted := x509.NewCertPool()
	for _, k := range r.keys {
		ca, _, err := k.authority()
		if err != nil {
			return nil, err
		}
		trusted.AddCert(ca)
	}
	return trusted, nil
}

// certificate is a node's, by the key in use.
func (r Keyring) certificate(node string, key ed25519.PrivateKey) (tls.Certificate, error) {
	ca, signer, err := r.keys[0].authority()
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := certify(&x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: node}, NotBefore: since, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, ca, key.Public().(ed25519.PublicKey), signer)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// Verifier is nil for a connection whose other end showed one of the ring's keys:
// a connection may have been made with another ring.
func (r Keyring) Verifier() (func(tls.ConnectionState) error, error) {
	trusted, err := r.authorities()
	if err != nil {
		return nil, err
	}
	return func(state tls.ConnectionState) error {
		_, err := identify(state, trusted)
		return err
	}, nil
}

// ErrNotMember says that the other end does not hold the cluster's key.
var ErrNotMember = errors.New("the other end does not hold this cluster's key")

// identify says who is at the other end, if one of the trusted authorities does.
func identify(state tls.ConnectionState, trusted *x509.CertPool) (Identity, error) {
	if len(state.PeerCertificates) != 1 {
		return Identity{}, fmt.Errorf("%d certificates: %w", len(state.PeerCertificates), ErrNotMember)
	}
	leaf := state.PeerCertificates[0]
	_, err := leaf.Verify(x509.VerifyOptions{Roots: trusted, CurrentTime: since.AddDate(1, 0, 0), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return Identity{}, fmt.Errorf("%w (%w)", ErrNotMember, err)
	}
	key, ok := leaf.PublicKey.(ed25519.PublicKey)
	if !ok || leaf.Subject.CommonName == "" || leaf.IsCA {
		return Identity{}, fmt.Errorf("a certificate that is no node's: %w", ErrNotMember)
	}
	return Identity{leaf.Subject.CommonName, key}, nil
}

// Peer is who is at the other end of a connection that TLS's configuration let
// through.
func Peer(state tls.ConnectionState) (Identity, error) {
	if len(state.PeerCertificates) != 1 {
		return Identity{}, ErrNotMember
	}
	key, _ := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	return Identity{state.PeerCertificates[0].Subject.CommonName, key}, nil
}
