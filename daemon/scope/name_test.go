package scope

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestUnitNames(t *testing.T) {
	long := strings.Repeat("a.", 126) + "b" // 253 bytes, the longest pod name there is
	for _, c := range []struct{ what, namespace, pod, uid, want string }{
		{"dashes and dots stay", "kube-system", "web-0.a", "0f3c9a52-77aa", "shoal-kube-system-web-0.a-0f3c9a52.scope"},
		{"a short uid is kept whole", "default", "web", "abc", "shoal-default-web-abc.scope"},
		{"no byte can leave the name", "../x", "a b/c", "12345678", `shoal-\x2e.-x-a\x20b-c-12345678.scope`},
		{"long names are cut and hashed", strings.Repeat("n", 63), long, "12345678-9",
			"shoal-" + strings.Repeat("n", 63) + "-" + long[:136] + "-HASH-12345678.scope"},
	} {
		got := UnitName(c.namespace, c.pod, c.uid)
		if i := strings.Index(c.want, "HASH"); i >= 0 && len(got) > i+8 {
			got = got[:i] + "HASH" + got[i+8:]
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, got, c.want)
		}
	}
	if a, b := UnitName("n", long+"1", "12345678"), UnitName("n", long+"2", "12345678"); a == b || len(a) > maxUnitName {
		t.Errorf("two long names became %s and %s (%d bytes)", a, b, len(a))
	}
}

func TestSlicesNestByTheirDashes(t *testing.T) {
	for slice, want := range map[string]string{
		Slice(v1.PodQOSGuaranteed):      "shoal.slice",
		Slice(v1.PodQOSBurstable):       "shoal.slice/shoal-burstable.slice",
		Slice(v1.PodQOSBestEffort):      "shoal.slice/shoal-besteffort.slice",
		"shoal-exclusive-durable.slice": "shoal.slice/shoal-exclusive.slice/shoal-exclusive-durable.slice",
	} {
		if got := slicePath(slice); got != want {
			t.Errorf("%s: got %s, want %s", slice, got, want)
		}
	}
}

func TestHugePageSizesAreWrittenAsRuntimesDo(t *testing.T) {
	got, err := hugePageSizes([]string{"hugepages-1048576kB", "hugepages-64kB", "hugepages-2048kB"})
	if want := []string{"64KB", "2MB", "1GB"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if got, err := hugePageSizes([]string{"hugepages"}); err == nil {
		t.Errorf("got %v from a strange name", got)
	}
}
