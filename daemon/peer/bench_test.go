package peer

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/daemon/record"
)

// knowing is a host that has the records of many nodes.
func knowing(t testing.TB, name string, nodes, entries int, value string) *host {
	h := listens(t, name, nil)
	for i := range nodes {
		node := fmt.Sprintf("node-%03d", i)
		r := record.New(node, 1763739300123)
		d := r.Publish(1, values(many(entries, value)...))
		d.From, d.Whole = 0, true
		d.Head = r.Sign(ours.ID, keyOf("any"))
		if _, err := h.set.Merge(Answer{Delta: d, Key: keyOf("any").Public().(ed25519.PublicKey)}); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// BenchmarkIdleExchange is one between two that have the same, on a stream that
// is open: what each node does once a second as the one that calls, and once as
// the one that is called.
func BenchmarkIdleExchange(b *testing.B) {
	x, y := knowing(b, "n1", 100, 10, `1`), listens(b, "n2", nil)
	y.sync(b, x)
	same(b, x, y)
	got, sent := x.got.Load(), x.sent.Load()
	b.ResetTimer()
	for range b.N {
		y.sync(b, x)
	}
	b.ReportMetric(float64(x.got.Load()-got)/float64(b.N), "B-request/op")
	b.ReportMetric(float64(x.sent.Load()-sent)/float64(b.N), "B-answer/op")
}

// BenchmarkFirstExchange is one on a new stream: what a neighbour that is new
// costs.
func BenchmarkFirstExchange(b *testing.B) {
	x, y := listens(b, "n1", nil), listens(b, "n2", nil)
	y.sync(b, x)
	got, sent := x.got.Load(), x.sent.Load()
	b.ResetTimer()
	for range b.N {
		y.Close()
		y.sync(b, x)
	}
	b.ReportMetric(float64(x.got.Load()-got)/float64(b.N), "B-request/op")
	b.ReportMetric(float64(x.sent.Load()-sent)/float64(b.N), "B-answer/op")
}

// BenchmarkFullSync has a new node get 100 records of 100 entries of 1 kB.
func BenchmarkFullSync(b *testing.B) {
	x := knowing(b, "n1", 100, 100, `"`+strings.Repeat("v", 1000)+`"`)
	for i := range b.N {
		b.StopTimer()
		y := listens(b, fmt.Sprint("new", i), nil)
		b.StartTimer()
		y.sync(b, x)
	}
}

// BenchmarkOneChange is an exchange after one of 100 records has changed.
func BenchmarkOneChange(b *testing.B) {
	x, y := knowing(b, "n1", 100, 10, `1`), listens(b, "n2", nil)
	y.sync(b, x)
	got, sent := x.got.Load(), x.sent.Load()
	for i := range b.N {
		x.publish(b, "k", fmt.Sprint(i))
		y.sync(b, x)
	}
	b.ReportMetric(float64(x.got.Load()-got)/float64(b.N), "B-request/op")
	b.ReportMetric(float64(x.sent.Load()-sent)/float64(b.N), "B-answer/op")
}
