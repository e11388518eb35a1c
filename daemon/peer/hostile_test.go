package peer

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/record"
)

// liar answers whatever a test wants.
type liar struct {
	answer func(*message) *message
	calls  int
}

func (l *liar) call(_ context.Context, to Peer, m *message) (*message, cluster.Identity, error) {
	l.calls++
	out := l.answer(m)
	out.Hello = hello{protocol, oldest, ours}
	return out, cluster.Identity{Node: "evil", Key: keyOf("evil").Public().(ed25519.PublicKey)}, nil
}

// forgedBy is a record of a node, signed by somebody.
func forgedBy(node, signer string, pairs ...string) Answer {
	r := record.New(node, 1<<50)
	d := r.Publish(1, values(pairs...))
	d.Whole = true
	d.Head = r.Sign(ours.ID, keyOf(signer))
	return Answer{Delta: d, Key: keyOf(signer).Public().(ed25519.PublicKey)}
}

func listing(a Answer) summaries { return summaries{summaryOf(a.Delta.Head)} }

// TestLiesAreNamedAndDoNothing, whichever they are; those that prove that the
// peer does not check what it brings have it left alone for a minute.
func TestLiesAreNamedAndDoNothing(t *testing.T) {
	forged := forgedBy("n2", "n2", "x", `"forged"`)
	forged.Delta.Entries[0].Value = json.RawMessage(`"other"`)
	unsigned := forgedBy("n2", "n2", "x", `1`)
	unsigned.Delta.Head.Signature = nil
	strange := forgedBy("n2", "n2", "x", `{"a": 1}`)
	strange.Delta.Entries[0].Value = json.RawMessage(`{"a":  1}`)
	seq := 0
	endless := func(m *message) *message {
		if m.Digest != nil {
			return &message{Heads: listing(forged)}
		}
		seq++
		part := forgedBy("n2", "n2", "x", `1`)
		part.Delta.Entries = nil
		part.Delta.Whole, part.Delta.Partial, part.Delta.Buckets = false, true, []byte{byte(seq)}
		part.More = true
		return &message{Answers: answers{part}}
	}
	bring := func(a Answer) func(*message) *message {
		return func(m *message) *message {
			if m.Digest != nil {
				return &message{Heads: listing(a)}
			}
			return &message{Answers: answers{a}}
		}
	}
	for _, tt := range []struct {
		name   string
		answer func(*message) *message
		alone  bool
		want   string // in the error; "" for none
	}{
		{"a changed value", bring(forged), true, "does not fit the signed head"},
		{"no signature", bring(unsigned), true, "not that node's"},
		{"signed with the key of another than it shows", bring(Answer{Delta: forgedBy("n2", "evil", "x", `1`).Delta, Key: keyOf("n2").Public().(ed25519.PublicKey)}), true, "not that node's"},
		{"a known node's name with another key", bring(forgedBy("known", "evil", "x", `1`)), false, ""},
		{"not as JSON carries it", bring(strange), true, "protocol"},
		{"an older record than it says", func(m *message) *message {
			if m.Digest != nil {
				return &message{Heads: summaries{{Node: "n2", Incarnation: 1 << 60, Seq: 1}}}
			}
			return bring(forgedBy("n2", "n2", "x", `1`))(m)
		}, false, "and gives it at"},
		{"heads of nodes that are not there", func(m *message) *message {
			if m.Digest != nil {
				return &message{Heads: summaries{{Node: "n2", Incarnation: 1, Seq: 1}}}
			}
			return &message{}
		}, false, "does not give it"},
		{"a record without an end", endless, true, "no end"},
		{"hashes that are none", func(m *message) *message { return &message{Wants: wants{{Node: "n1", Hashes: []byte("x")}}} }, true, "hashes of 1 bytes"},
		{"wants without an end", func(m *message) *message {
			return &message{Wants: make(wants, mostNodes+1)}
		}, true, "more than there is"},
		{"a proof that proves nothing", func(m *message) *message { return &message{Clones: clones{{}}} }, true, "proves nothing"},
		{"a proof that somebody else signed", func(m *message) *message {
			a, b := forgedBy("n2", "n2", "x", `1`), forgedBy("n2", "evil", "x", `2`)
			return &message{Clones: clones{{A: a.Delta.Head, B: b.Delta.Head, Key: a.Key}}}
		}, true, "not that node's"},
		{"this node's record, by another key", bring(forgedBy("n1", "evil", "x", `1`)), false, ""},
	} {
		now := time.Unix(1e9, 0)
		h := stands(t, "n1", keyOf("n1"), func(c *Config, _ *SetConfig) { c.Now = func() time.Time { return now } })
		h.publish(t, "mine", `1`)
		if err := h.config.Pins.Admit(cluster.Identity{Node: "known", Key: keyOf("known").Public().(ed25519.PublicKey)}); err != nil {
			t.Fatal(err)
		}
		before := h.set.Digest()
		l := &liar{answer: tt.answer}
		h.Endpoint.caller = l
		err := h.Sync(t.Context(), Peer{"evil", "x"})
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "evil at x")) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		if got := h.set.Digest(); got != before || len(h.set.Clones()) > 0 || h.set.Twin() != nil {
			t.Errorf("%s: it left a trace: %v", tt.name, h.set.Heads())
		}
		calls := l.calls
		_ = h.Sync(t.Context(), Peer{"evil", "x"})
		if called := l.calls > calls; called == tt.alone {
			t.Errorf("%s: called again within the minute: %v", tt.name, called)
		}
		now = now.Add(aloneFor)
		_ = h.Sync(t.Context(), Peer{"evil", "x"})
		if calls == l.calls {
			t.Errorf("%s: not called after the minute", tt.name)
		}
	}
}

// TestSmallJSONDoesNotBecomeMuchMemory: lists whose elements are next to nothing
// on the wire.
func TestSmallJSONDoesNotBecomeMuchMemory(t *testing.T) {
	fill := func(before, element, after string) string {
		return before + strings.Repeat(element+",", (mostMessage-len(before)-len(after))/(len(element)+1)-1) + element + after
	}
	for name, text := range map[string]string{
		"heads":        fill(`{"heads":[`, `{}`, `]}`),
		"named heads":  fill(`{"heads":[`, `{"n":"abcdefghijkl"}`, `]}`),
		"wants":        fill(`{"wants":[`, `{}`, `]}`),
		"answers":      fill(`{"answers":[`, `{}`, `]}`),
		"null":         fill(`{"answers":[`, `null`, `]}`),
		"clones":       fill(`{"clones":[`, `{}`, `]}`),
		"entries":      fill(`{"answers":[{"delta":{"entries":[`, `{}`, `]}}]}`),
		"some entries": fill(`{"answers":[`, `{"delta":{"entries":[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}]}}`, `]}`),
		"nested":       strings.Repeat(`{"answers":[`, mostMessage/12),
		"not JSON":     "hello",
		"hash":         `{"digest":"00"}`,
		"mark":         `{"heads":[{"n":"abc","m":"AAAAAAAAAAAAAAAAAAAAAAA"}]}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := decode([]byte(text))
		runtime.ReadMemStats(&after)
		if !errors.Is(err, errBroken) {
			t.Errorf("%s: got %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 6*mostMessage {
			t.Errorf("%s: %d MB for a message of %d MB", name, n>>20, mostMessage>>20)
		}
	}
}

// raw is an HTTP client with a member's certificate that sends what it likes.
func raw(t *testing.T, node string) *http.Client {
	c, err := ring.TLS(node, keyOf(node), func(cluster.Identity) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	c.NextProtos = []string{"h2"}
	tr := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestAMemberThatSendsNonsenseIsToldSo(t *testing.T) {
	a := listens(t, "n1", nil)
	greeting, _ := json.Marshal(hello{protocol, oldest, ours})
	for i, tt := range []struct{ body, want string }{
		{strings.Repeat(" ", mostMessage+1), "more than 8388608 bytes"},
		{"{", "does not keep to the protocol"},
		{`{"hello":` + string(greeting) + `,"wants":[{"n":"n1","h":"AAAA"}]}`, "hashes of 3 bytes"},
		{`{"hello":{"protocol":1,"oldest":1}}`, "a cluster id of 0 characters"},
	} {
		client := raw(t, fmt.Sprint("evil", i))
		for _, want := range []string{tt.want, "leaves node evil"} { // the second time it is left alone
			if want != tt.want {
				tt.body = `{"hello":` + string(greeting) + `}`
			}
			resp, err := client.Post("https://"+a.peer.Address+path, "application/json", strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !strings.Contains(string(b), want) {
				t.Errorf("%.20q: told %s, %v; want %q", tt.body, b, err, want)
			}
		}
	}
	if resp, err := raw(t, "n8").Get("https://" + a.peer.Address + "/"); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("another path: %v, %v", resp, err)
	}
}

// TestOneThatIsSlowKeepsNobodyFromTheOthers: its second message waits, the third
// is refused, and another node is served.
func TestOneThatIsSlowKeepsNobodyFromTheOthers(t *testing.T) {
	a, b := listens(t, "n1", nil), listens(t, "n2", nil)
	b.publish(t, "x", `1`)
	slow := raw(t, "slow")
	ended := make(chan struct{}, mostServedEach)
	for range mostServedEach {
		body, feed := io.Pipe()
		t.Cleanup(func() { feed.Close() })
		go func() {
			resp, err := slow.Post("https://"+a.peer.Address+path, "application/json", body)
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			ended <- struct{}{}
		}()
		if _, err := feed.Write([]byte("{")); err != nil {
			t.Fatal(err)
		}
	}
	busy := func() bool {
		a.Endpoint.mu.Lock()
		defer a.Endpoint.mu.Unlock()
		return a.served["slow"] == mostServedEach
	}
	for deadline := time.Now().Add(time.Minute); !busy(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the slow messages do not arrive")
		}
	}
	resp, err := slow.Post("https://"+a.peer.Address+path, "application/json", bytes.NewReader([]byte("{}")))
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a third message: %v, %v", resp, err)
	}
	b.sync(t, a)
	same(t, a, b)
	if testing.Short() {
		return
	}
	for range mostServedEach { // by the server's deadline: nobody else ends them
		<-ended
	}
}

// TestStrangersGetNoWord: neither without a certificate nor in the clear.
func TestStrangersGetNoWord(t *testing.T) {
	a := listens(t, "n1", nil)
	none := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for name, call := range map[string]func() (*http.Response, error){
		"no certificate": func() (*http.Response, error) { return none.Post("https://"+a.peer.Address+path, "", nil) },
		"in the clear":   func() (*http.Response, error) { return none.Post("http://"+a.peer.Address+path, "", nil) },
	} {
		resp, err := call()
		if err == nil {
			b, _ := io.ReadAll(resp.Body)
			if name == "no certificate" || strings.Contains(string(b), "n1") || resp.StatusCode == http.StatusOK {
				t.Errorf("%s: %s %s", name, resp.Status, b)
			}
		}
	}
}

// TestOneThatCallsWithoutAPauseIsHeldToARate: it is told so before its message is
// read, is no liar for it, and keeps nobody else waiting.
func TestOneThatCallsWithoutAPauseIsHeldToARate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func(c *Config, _ *SetConfig) { c.Now = func() time.Time { return now } }
	a, eager, other := listens(t, "n1", clock), stands(t, "eager", keyOf("eager"), nil), stands(t, "other", keyOf("other"), nil)
	begun := func() (n int) {
		for ; n <= servedBurst; n++ {
			if err := eager.Sync(t.Context(), a.peer); err != nil {
				if !strings.Contains(err.Error(), "HTTP 429") || !strings.Contains(err.Error(), "node eager calls node n1 more than 40 times a second") {
					t.Error(err)
				}
				return n
			}
		}
		return n
	}
	if n := begun(); n > servedBurst || n < servedBurst/4 { // an exchange may take several messages
		t.Errorf("it began %d exchanges at once", n)
	}
	if err := other.Sync(t.Context(), a.peer); err != nil {
		t.Errorf("another node is refused for it: %v", err)
	}
	if a.alone("eager") {
		t.Error("it is taken for a liar")
	}
	now = now.Add(time.Second)
	if n := begun(); n == 0 || n > servedRate {
		t.Errorf("a second later it began %d exchanges", n)
	}
}
