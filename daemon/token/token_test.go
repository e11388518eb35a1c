package token

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

var epoch = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

func signer(t *testing.T, issuer string, seed byte) *Signer {
	t.Helper()
	s, err := NewSigner(issuer, ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(seed), ed25519.SeedSize))))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var bound = Bound{Namespace: "ns", Account: Ref{"robot", "u1"}, Pod: &Ref{"p", "u2"}, Node: &Ref{"n1", "u3"}}

func TestATokenHasKubernetesClaims(t *testing.T) {
	text, err := signer(t, "https://issuer", 'a').Sign(bound, []string{"vault"}, time.Hour, "id-1", epoch)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"aud":["vault"],"exp":1795222800,"iat":1795219200,"iss":"https://issuer","jti":"id-1",` +
		`"kubernetes.io":{"namespace":"ns","node":{"name":"n1","uid":"u3"},"pod":{"name":"p","uid":"u2"},"serviceaccount":{"name":"robot","uid":"u1"}},` +
		`"nbf":1795219200,"sub":"system:serviceaccount:ns:robot"}`
	var claims any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	if got, _ := json.Marshal(claims); string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestOnlyTheSignersOwnTokensAreGoodAndOnlyWhileTheyLive(t *testing.T) {
	s := signer(t, "https://issuer", 'a')
	text, err := s.Sign(bound, []string{"vault", "api"}, time.Hour, "id-1", epoch)
	if err != nil {
		t.Fatal(err)
	}
	c, both, err := s.Verify(text, []string{"other", "api"}, epoch.Add(time.Minute))
	if err != nil || c.Bound.Pod.UID != "u2" || len(both) != 1 || both[0] != "api" {
		t.Fatalf("got %+v, %v, %v", c, both, err)
	}
	parts := strings.Split(text, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	for name, tt := range map[string]struct {
		s     *Signer
		text  string
		aud   string
		after time.Duration
		want  error
	}{
		"expired":        {s, text, "api", time.Hour + 2*time.Minute, ErrExpired},
		"not yet":        {s, text, "api", -time.Hour, ErrNotYet},
		"audience":       {s, text, "other", 0, ErrAudience},
		"another key":    {signer(t, "https://issuer", 'b'), text, "api", 0, nil},
		"another issuer": {signer(t, "https://other", 'a'), text, "api", 0, nil},
		"no signature":   {s, none, "api", 0, nil},
		"changed":        {s, parts[0] + "." + parts[1][:len(parts[1])-2] + "AA." + parts[2], "api", 0, nil},
		"not a token":    {s, "x", "api", 0, nil},
	} {
		c, _, err := tt.s.Verify(tt.text, []string{tt.aud}, epoch.Add(tt.after))
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || c.Subject != "" {
			t.Errorf("%s: got %+v, %v", name, c, err)
		}
	}
}

func TestOthersCanCheckATokenWithTheKeySet(t *testing.T) {
	s := signer(t, "https://issuer", 'a')
	data, err := s.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(data, &set); err != nil || strings.Contains(string(data), `"d"`) {
		t.Fatalf("got %s, %v", data, err)
	}
	text, _ := s.Sign(bound, []string{"vault"}, time.Hour, "id-1", epoch)
	parsed, err := jose.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	keys := set.Key(parsed.Signatures[0].Header.KeyID)
	if len(keys) != 1 {
		t.Fatalf("no key %q in %s", parsed.Signatures[0].Header.KeyID, data)
	}
	if _, err := parsed.Verify(keys[0]); err != nil {
		t.Error(err)
	}
}

func TestATokenIsRenewedAtFourFifthsOfItsLifeOrAfterADay(t *testing.T) {
	for life, want := range map[time.Duration]time.Duration{10 * time.Minute: 8 * time.Minute, time.Hour: 48 * time.Minute, 365 * 24 * time.Hour: 24 * time.Hour} {
		if got := Renew(epoch, life).Sub(epoch); got != want {
			t.Errorf("%s: got %s, want %s", life, got, want)
		}
	}
}
