package manifests

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What upstream's validation says of the name of a resource that there is not: both for the same mistake.
const (
	notQualified = "must be a standard resource type or fully qualified"
	notStandard  = "must be a standard resource for containers"
)

// echoes says whether a validation error only repeats another one of the same object: what is wrong with a resource's
// name, once more; or with a request that nobody wrote, for defaulting makes requests of limits.
func (n *node) echoes(e *field.Error, all field.ErrorList) bool {
	if e.Detail == notStandard && slices.ContainsFunc(all, func(o *field.Error) bool { return o.Field == e.Field && o.Detail == notQualified }) {
		return true
	}
	at, name, ok := strings.Cut(e.Field, ".resources.requests[")
	if !ok || n.writes(e) {
		return false
	}
	limit := at + ".resources.limits[" + name
	return slices.ContainsFunc(all, func(o *field.Error) bool { return o.Field == limit && o.Detail == e.Detail })
}

// writes says whether the entry of a map that a validation error is about stands in the file.
func (n *node) writes(e *field.Error) bool {
	around := e.Field[:strings.LastIndex(e.Field, "[")]
	return n.locate(e) != n.locate(&field.Error{Field: around})
}

// resourceMeant is the name of a resource that was probably meant.
func resourceMeant(e *field.Error) string {
	if e.Detail != notQualified && e.Detail != notStandard {
		return ""
	}
	return closest(fmt.Sprint(e.BadValue), []string{string(v1.ResourceCPU), string(v1.ResourceMemory), string(v1.ResourceEphemeralStorage)})
}
