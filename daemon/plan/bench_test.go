package plan

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkLoseEach is the glance at a cluster of 50 nodes with 1,000 pods.
func BenchmarkLoseEach(b *testing.B) {
	s := newStory()
	for i := range 50 {
		s.node(fmt.Sprintf("n%02d", i), []string{"cpu=32"})
	}
	for i := range 50 {
		s.apply(b, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: w%02[1]d, namespace: default}
spec:
  replicas: 20
  selector: {matchLabels: {app: w%02[1]d}}
  template:
    metadata: {labels: {app: w%02[1]d}}
    spec:
      containers: [{name: main, image: x, resources: {requests: {cpu: 500m}}}]
`, i), true)
	}
	for b.Loop() {
		if _, err := LoseEach(context.Background(), s.World); err != nil {
			b.Fatal(err)
		}
	}
}
