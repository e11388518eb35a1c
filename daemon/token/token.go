// Package token signs and checks service account tokens: JSON Web Tokens (RFC
// 7519) with Kubernetes' claims (KEP-1205), signed with EdDSA (RFC 8037).
// Whoever trusts the node's key set can check them without asking the node;
// only the node knows whether what they are bound to is still there.
package token

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// MinLife is the shortest life that may be asked for, and MaxLife the longest
// (apis/authentication/validation).
const (
	MinLife = 10 * time.Minute
	MaxLife = (1 << 32) * time.Second
)

// Errors of tokens that are no good any more, in upstream's words.
var (
	ErrExpired  = errors.New("service account token has expired")
	ErrNotYet   = errors.New("service account token is not valid yet")
	ErrAudience = errors.New("token audiences do not include any of those that are asked for")
)

// Ref is an object that a token is bound to.
type Ref struct {
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"`
}

// Bound is the claim kubernetes.io: whose token it is, and what must exist for
// it to be good.
type Bound struct {
	Namespace string `json:"namespace"`
	Account   Ref    `json:"serviceaccount"`
	Pod       *Ref   `json:"pod,omitempty"`
	Node      *Ref   `json:"node,omitempty"`
}

// Claims are those of one token.
type Claims struct {
	jwt.Claims
	Audience []string `json:"aud"` // always a list, as Kubernetes writes it; the library makes a string of one
	Bound    Bound    `json:"kubernetes.io"`
}

// Signer signs for one issuer with one key.
type Signer struct {
	issuer string
	id     string // of the key
	signer jose.Signer
	public ed25519.PublicKey
}

// NewSigner makes a signer. The key's id is the hash of its public half, as
// upstream names keys.
func NewSigner(issuer string, key ed25519.PrivateKey) (*Signer, error) {
	public := key.Public().(ed25519.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("sign tokens: %w", err)
	}
	sum := sha256.Sum256(der)
	s := &Signer{issuer: issuer, id: base64.RawURLEncoding.EncodeToString(sum[:]), public: public}
	s.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: key, KeyID: s.id}}, nil)
	if err != nil {
		return nil, fmt.Errorf("sign tokens: %w", err)
	}
	return s, nil
}

// Issuer is who the tokens say they are from.
func (s *Signer) Issuer() string { return s.issuer }

// Sign makes a token that is good from now on, for a life, at audiences. id is
// unique to it.
func (s *Signer) Sign(b Bound, audiences []string, life time.Duration, id string, now time.Time) (string, error) {
	c := Claims{
		Claims: jwt.Claims{
			Issuer: s.issuer, Subject: "system:serviceaccount:" + b.Namespace + ":" + b.Account.Name, ID: id,
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(life)),
		},
		Audience: audiences,
		Bound:    b,
	}
	text, err := jwt.Signed(s.signer).Claims(c).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return text, nil
}

// Verify checks a token's signature, issuer, times and audiences, at least one
// of which it must be meant for. Whether what it is bound to exists is the
// caller's to find out. The second value is which of the audiences it is for.
func (s *Signer) Verify(text string, audiences []string, now time.Time) (Claims, []string, error) {
	var c Claims
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return c, nil, fmt.Errorf("invalid bearer token: %w", err)
	}
	if err := parsed.Claims(s.public, &c); err != nil {
		return Claims{}, nil, fmt.Errorf("invalid bearer token: %w", err)
	}
	if c.Issuer != s.issuer {
		return Claims{}, nil, errors.New("invalid bearer token: it has another issuer")
	}
	switch err := c.ValidateWithLeeway(jwt.Expected{Time: now}, jwt.DefaultLeeway); {
	case errors.Is(err, jwt.ErrExpired) || c.Expiry == nil:
		return Claims{}, nil, ErrExpired
	case err != nil:
		return Claims{}, nil, ErrNotYet
	}
	var both []string
	for _, a := range audiences {
		if slices.Contains(c.Audience, a) && !slices.Contains(both, a) {
			both = append(both, a)
		}
	}
	if len(both) == 0 {
		return Claims{}, nil, ErrAudience
	}
	return c, both, nil
}

// KeySet is the public key as a JSON Web Key Set (RFC 7517), for /openid/v1/jwks.
func (s *Signer) KeySet() ([]byte, error) {
	return json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: s.public, KeyID: s.id, Algorithm: string(jose.EdDSA), Use: "sig"},
	}})
}

// Discovery is the document of OpenID Connect Discovery 1.0, as far as it
// concerns tokens that are only checked.
func (s *Signer) Discovery() ([]byte, error) {
	return json.Marshal(map[string]any{
		"issuer":                                s.issuer,
		"jwks_uri":                              s.issuer + "/openid/v1/jwks",
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{string(jose.EdDSA)},
	})
}

// Renew is when a token that was made at a time for a life is replaced: at 80 %
// of it, and after a day at the latest (the kubelet's token manager).
func Renew(made time.Time, life time.Duration) time.Time {
	return made.Add(min(life*8/10, 24*time.Hour))
}
