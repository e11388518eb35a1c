package manifests

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// locate finds where the field of a validation error stands: the value, or its
// key if the value is an object or a list, or the nearest parent of a field
// that is not there. field.Error carries its path only as text, in which a key
// with dots looks like several fields, so the text is read along the tree.
func (n *node) locate(err *field.Error) mark {
	at, _ := n.find(err.Field, n.at, err.BadValue)
	return at
}

// find descends along path, whose value or key stands at at. It reports how
// much of the path it could follow, so that of several readings of a path the
// one that leads furthest is taken.
func (n *node) find(path string, at mark, bad any) (mark, int) {
	path = strings.TrimPrefix(path, ".")
	if path == "" {
		return n.pick(at, bad), 0
	}
	best, depth := at, 0
	for key, child := range n.fields {
		rest, ok := cutKey(path, key)
		if !ok {
			continue
		}
		at := n.keys[key]
		if child.fields == nil && child.items == nil && bad != any(key) {
			at = child.at
		}
		if m, d := child.find(rest, at, bad); d+len(key) > depth {
			best, depth = m, d+len(key)
		}
	}
	if i, rest, ok := cutIndex(path); ok && i < len(n.items) {
		m, d := n.items[i].find(rest, n.items[i].at, bad)
		return m, d + 1
	}
	return best, depth
}

// pick narrows an error about a whole object or list down to the key or the
// value that it complains of: upstream reports a bad label at metadata.labels.
func (n *node) pick(at mark, bad any) mark {
	text := fmt.Sprint(bad)
	if text == "" {
		return at
	}
	if _, isKey := n.fields[text]; isKey {
		return n.keys[text]
	}
	var found *node
	for key, child := range n.fields {
		if strings.EqualFold(key, text) {
			return n.keys[key] // upstream lowers the case of annotation keys
		}
		if child.value == any(text) && (found == nil || child.at.before(found.at)) {
			found = child
		}
	}
	for _, item := range n.items {
		if item.value == any(text) {
			return item.at
		}
	}
	if found != nil {
		return found.at
	}
	return at
}

func (m mark) before(o mark) bool { return m.line < o.line || m.line == o.line && m.col < o.col }

// cutKey takes key, or [key], off the front of a path.
func cutKey(path, key string) (rest string, ok bool) {
	if rest, ok = strings.CutPrefix(path, "["+key+"]"); ok {
		return rest, true
	}
	rest, ok = strings.CutPrefix(path, key)
	return rest, ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

func cutIndex(path string) (i int, rest string, ok bool) {
	digits, rest, ok := strings.Cut(strings.TrimPrefix(path, "["), "]")
	if !ok || path[0] != '[' {
		return 0, "", false
	}
	i, err := strconv.Atoi(digits)
	return i, rest, err == nil && i >= 0
}
