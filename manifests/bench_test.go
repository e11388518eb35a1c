package manifests

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

func BenchmarkDecodePod(b *testing.B) {
	data, err := os.ReadFile("testdata/kubernetes-docs/pods-security-context.yaml")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, problems := Decode("pod.yaml", data); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}

func BenchmarkFromDeclaredPod(b *testing.B) {
	data, err := os.ReadFile("testdata/kubernetes-docs/pods-security-context.yaml")
	if err != nil {
		b.Fatal(err)
	}
	objects, _ := Decode("pod.yaml", data)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FromDeclared(objects[0].Declared); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecodeHostile are the costliest files that are not refused unread,
// and some that are.
func BenchmarkDecodeHostile(b *testing.B) {
	flow := "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {a: [" + strings.Repeat("1,", 499_000) + "1]}}"
	for name, data := range map[string][]byte{
		"flow":     []byte(flow),
		"wide":     []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n" + keys(100_000)),
		"docs":     bytes.Repeat([]byte("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"), 9_000),
		"deep":     []byte(strings.Repeat("[", 400_000)),
		"unknown":  []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n" + keys(100_000)),
		"text":     []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  a: |\n" + strings.Repeat("    some text in a line\n", 40_000)),
		"manyjson": bytes.Repeat([]byte("{}"), MaxFileSize/2),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Decode("f.yaml", data)
			}
		})
	}
}

func keys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  k%d: v\n", i)
	}
	return b.String()
}
