package metrics

import "testing"

// BenchmarkPage makes the whole page of a host with a hundred pods, without
// measuring them: that is daemon/stats' BenchmarkSample.
func BenchmarkPage(b *testing.B) {
	m := New(sources(b, 100))
	b.ReportAllocs()
	for b.Loop() {
		scrape(b, m, Path)
	}
}
