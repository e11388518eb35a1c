package api

import (
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/shoal-project/shoal/daemon/view"
)

// table is how a kind is shown. Columns and cells are upstream's
// (k8s.io/kubernetes/pkg/printers/internalversion), kept by hand because that
// package alone is as large as the daemon's API.
type table struct {
	columns []metav1.TableColumnDefinition
	cells   func(o view.Object, now time.Time) []any
}

var tables = map[schema.GroupKind]table{}

// Every kind that has no line of its own shows its name and age.
var plain = show("Name Age", func(o view.Object, now time.Time) []any {
	return []any{o.GetName(), age(o, now)}
})

// show makes a table. Columns are separated by spaces, words within one by
// underscores; "*" begins those of -o wide, ":" names a type that is not
// string.
func show[T view.Object](columns string, cells func(o T, now time.Time) []any) table {
	t := table{cells: func(o view.Object, now time.Time) []any { return cells(o.(T), now) }}
	for _, c := range strings.Fields(columns) {
		c, wide := strings.CutPrefix(c, "*")
		name, kind, typed := strings.Cut(c, ":")
		d := metav1.TableColumnDefinition{Name: strings.ReplaceAll(name, "_", " "), Type: "string"}
		if typed {
			d.Type = kind
		}
		if wide {
			d.Priority = 1
		}
		if name == "Name" {
			d.Format = "name"
		}
		t.columns = append(t.columns, d)
	}
	return t
}

func tableOf(k schema.GroupKind) table {
	if t, ok := tables[k]; ok {
		return t
	}
	return plain
}

func columnsOf(k schema.GroupKind) []metav1.TableColumnDefinition { return tableOf(k).columns }

// cellsOf is an object's row, with as many cells as there are columns.
func cellsOf(k schema.GroupKind, o view.Object, now time.Time) []any {
	return tableOf(k).cells(o, now)
}

// age is the time since an object was made, as kubectl shows it.
func age(o metav1.Object, now time.Time) string { return since(o.GetCreationTimestamp(), now) }

func since(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

func or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

// deref is what p points to, or zero.
func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// images is the names and images of containers, for -o wide.
func images(list []v1.Container) (names, images string) {
	var n, i []string
	for _, c := range list {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

func formatLabels(l map[string]string) string { return or(labels.FormatLabels(l), "<none>") }

// firstFew shows three of a list and how many more there are.
func firstFew(list []string, none string) string {
	const few = 3
	if len(list) == 0 {
		return none
	}
	if len(list) <= few {
		return strings.Join(list, ",")
	}
	return fmt.Sprintf("%s + %d more...", strings.Join(list[:few], ","), len(list)-few)
}

// accessModes is the short form RWO,ROX,RWX,RWOP, each once, in that order.
func accessModes(modes []v1.PersistentVolumeAccessMode) string {
	short := []struct {
		mode v1.PersistentVolumeAccessMode
		text string
	}{
		{v1.ReadWriteOnce, "RWO"}, {v1.ReadOnlyMany, "ROX"}, {v1.ReadWriteMany, "RWX"}, {v1.ReadWriteOncePod, "RWOP"},
	}
	var list []string
	for _, s := range short {
		if slices.Contains(modes, s.mode) {
			list = append(list, s.text)
		}
	}
	return strings.Join(list, ",")
}

// isDefault says whether a class carries the annotation that makes it its
// kind's default.
func isDefault(o metav1.Object, annotation string) string {
	if o.GetAnnotations()[annotation] == "true" {
		return o.GetName() + " (default)"
	}
	return o.GetName()
}
