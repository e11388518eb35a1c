package conformance

import "testing"

// TestFields shows what each field of a pod does: testdata/fields has one file for each rule. docs/pods.md names them.
func TestFields(t *testing.T) {
	all, err := stories("fields")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no stories")
	}
	onHost(t)
	for name, archive := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tell(t, name, archive)
		})
	}
}
