package manifests

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const managedMap = `
apiVersion: v1
kind: ConfigMap
metadata:
  name: m
  managedFields:
  - {manager: kubectl, operation: Apply, apiVersion: v1, time: "2026-11-21T10:00:00Z", fieldsType: FieldsV1, fieldsV1: {"f:data": {"f:a": {}, ".": {}}}}
data: {a: b}
`

func TestManagedFieldsCountOnlyInWhatTheAPIWrote(t *testing.T) {
	for _, written := range []bool{true, false} {
		objects, problems := decodeFile("f.yaml", []byte(managedMap), written)
		if len(problems) > 0 || len(objects) != 1 {
			t.Fatalf("got %d objects, problems %v", len(objects), problems)
		}
		back, err := FromDeclared(objects[0].Declared)
		if err != nil {
			t.Fatal(err)
		}
		for what, o := range map[string]any{"the value": objects[0].Value, "the declared": back} {
			got := o.(metav1.Object).GetManagedFields()
			if want := map[bool]int{true: 1}[written]; len(got) != want {
				t.Errorf("written %v: %s has %d entries, want %d", written, what, len(got), want)
			}
			if written && string(got[0].FieldsV1.Raw) != `{"f:data":{".":{},"f:a":{}}}` {
				t.Errorf("%s: fields %s", what, got[0].FieldsV1.Raw)
			}
		}
	}
}

func TestBooksThatSomebodyBrokeAreDropped(t *testing.T) {
	broken := strings.Replace(managedMap, `time: "2026-11-21T10:00:00Z"`, "time: [yesterday]", 1)
	objects, problems := decodeFile("f.yaml", []byte(broken), true)
	if len(problems) > 0 || len(objects) != 1 || objects[0].Value.(metav1.Object).GetManagedFields() != nil {
		t.Errorf("got %d objects, problems %v", len(objects), problems)
	}
}
