package manifests

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// shape compares a document with the Go type that it is to become and finds
// every unknown field, repeated key and wrong type. The decoder that follows
// would stop at the first wrong type, and knows no positions.
type shape struct {
	root    reflect.Type
	hideIn  []string // top-level fields whose values must not be shown
	hidden  bool     // inside one of them
	problem func(at mark, path *field.Path, message, suggestion string)
}

// check reports whether n can be decoded into a t once its wrong parts are
// taken out, which check has then done: validation can go on with the rest.
func (s *shape) check(t reflect.Type, n *node, path *field.Path) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.value == nil {
		return true // null is "not given" for every type
	}
	if decodesItself(t) {
		return s.selfDecoding(t, n, path)
	}
	switch t.Kind() {
	case reflect.Struct:
		return s.object(t, n, path)
	case reflect.Map:
		return s.mapping(t, n, path)
	case reflect.Slice:
		return s.list(t, n, path)
	case reflect.String:
		_, ok := n.value.(string)
		return s.is(n, path, "a string", ok)
	case reflect.Bool:
		_, ok := n.value.(bool)
		return s.is(n, path, "a boolean (true or false)", ok)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return s.integer(t, n, path)
	case reflect.Float32, reflect.Float64:
		_, ok := n.value.(json.Number)
		return s.is(n, path, "a number", ok)
	}
	return true
}

func (s *shape) object(t reflect.Type, n *node, path *field.Path) bool {
	if !s.is(n, path, "an object", n.fields != nil) {
		return false
	}
	s.repeats(n, func(key string) *field.Path { return child(path, key) })
	fields := fieldsOf(t)
	for _, name := range keysOf(n.fields) {
		child := child(path, name)
		ft, known := fields[name]
		if !known {
			guess := closest(name, keysOf(fields))
			if guess == "" {
				guess = elsewhere(s.root, name)
			}
			s.problem(n.keys[name], child, fmt.Sprintf("unknown field %q", child), guess)
			n.drop(name)
			continue
		}
		if path == nil && slices.Contains(s.hideIn, name) {
			s.hidden = true
		}
		if !s.check(ft, n.fields[name], child) {
			n.drop(name)
		}
		if path == nil {
			s.hidden = false
		}
	}
	return true
}

func (s *shape) mapping(t reflect.Type, n *node, path *field.Path) bool {
	if !s.is(n, path, "an object", n.fields != nil) {
		return false
	}
	s.repeats(n, path.Key)
	for _, k := range keysOf(n.fields) {
		if !s.check(t.Elem(), n.fields[k], path.Key(k)) {
			n.drop(k)
		}
	}
	return true
}

func (s *shape) list(t reflect.Type, n *node, path *field.Path) bool {
	if t.Elem().Kind() == reflect.Uint8 {
		return s.base64(n, path)
	}
	list, ok := n.value.([]any)
	if !s.is(n, path, `a list (its items begin with "- ")`, ok) {
		return false
	}
	for i, item := range n.items {
		if !s.check(t.Elem(), item, path.Index(i)) {
			list[i] = nil
		}
	}
	return true
}

func (s *shape) base64(n *node, path *field.Path) bool {
	text, ok := n.value.(string)
	if !s.is(n, path, "a string in base64", ok) {
		return false
	}
	_, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		what := err.Error()
		if len(s.hideIn) > 0 {
			what += "; write plain text under stringData instead"
		}
		s.problem(n.at, path, "expected a string in base64: "+what, "")
	}
	return err == nil
}

func (s *shape) integer(t reflect.Type, n *node, path *field.Path) bool {
	num, ok := n.value.(json.Number)
	if !s.is(n, path, "a whole number", ok) {
		return false
	}
	var err error
	low, high := int64(math.MinInt64), uint64(math.MaxInt64)
	if t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64 {
		low, high = 0, math.MaxUint64>>(64-t.Bits())
		_, err = strconv.ParseUint(num.String(), 10, t.Bits())
	} else {
		low, high = low>>(64-t.Bits()), high>>(64-t.Bits())
		_, err = strconv.ParseInt(num.String(), 10, t.Bits())
	}
	if err != nil {
		s.problem(n.at, path, fmt.Sprintf("expected a whole number from %d to %d, found %s", low, high, s.found(n)), "")
	}
	return err == nil
}

// repeats reports keys that a mapping holds twice.
func (s *shape) repeats(n *node, at func(key string) *field.Path) {
	for _, r := range n.repeated {
		p := at(r.key)
		s.problem(r.at, p, fmt.Sprintf("duplicate field %q, first given at line %d", p, r.first.line), "")
	}
}

// selfDecoding asks types with a JSON form of their own (quantities, times,
// int-or-string) whether they accept the value.
func (s *shape) selfDecoding(t reflect.Type, n *node, path *field.Path) bool {
	text, err := json.Marshal(n.value)
	if err == nil {
		err = json.Unmarshal(text, reflect.New(t).Interface())
	}
	if err == nil {
		return true
	}
	want := "another kind of value"
	switch reflect.New(t).Interface().(type) {
	case *resource.Quantity:
		want = `a quantity such as "500m", "0.5" or "64Mi"`
	case *intstr.IntOrString:
		want = "a whole number or a string"
	case *metav1.Time, *metav1.MicroTime:
		want = `a time such as "2026-01-31T12:00:00Z"`
	case *metav1.Duration:
		want = `a duration such as "90s"`
	}
	message := "expected " + want + ", found " + s.found(n)
	if t == reflect.TypeFor[resource.Quantity]() {
		message += ": " + resource.ErrFormatWrong.Error()
	}
	s.problem(n.at, path, message, "")
	return false
}

// is reports a value of the wrong type.
func (s *shape) is(n *node, path *field.Path, want string, ok bool) bool {
	if ok {
		return true
	}
	message, suggestion := "expected "+want+", found "+s.found(n), ""
	if !s.hidden {
		suggestion = requote(n, want)
	}
	if _, isBool := n.value.(bool); isBool && n.plain != "true" && n.plain != "false" && n.plain != "" && !s.hidden {
		message += fmt.Sprintf(" (Kubernetes reads YAML 1.1, in which %s without quotes is a boolean)", n.plain)
	}
	s.problem(n.at, path, message, suggestion)
	return false
}

// requote is the value with its quotes added or taken off, where that alone
// would give the wanted type.
func requote(n *node, want string) string {
	switch v := n.value.(type) {
	case bool, json.Number:
		if want == "a string" && n.plain != "" {
			return strconv.Quote(n.plain)
		}
	case string:
		_, notInt := strconv.ParseInt(v, 10, 64)
		if want == "a whole number" && notInt == nil {
			return v + " without quotes"
		}
		if (v == "true" || v == "false") && strings.HasPrefix(want, "a boolean") {
			return v + " without quotes"
		}
	}
	return ""
}

// maxShown bounds how much of a value a message repeats.
const maxShown = 60

func (s *shape) found(n *node) string {
	what, shown := "", ""
	switch v := n.value.(type) {
	case bool:
		what, shown = "the boolean", strconv.FormatBool(v)
	case json.Number:
		what, shown = "the number", v.String()
	case string:
		what, shown = "the string", strconv.Quote(v)
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	if s.hidden {
		return what + " <value omitted>"
	}
	if len(shown) > maxShown {
		shown = strings.ToValidUTF8(shown[:maxShown], "") + "..."
	}
	return what + " " + shown
}

// child is path.Child, also for the document itself.
func child(path *field.Path, name string) *field.Path {
	if path == nil {
		return field.NewPath(name)
	}
	return path.Child(name)
}

func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

var fieldCache sync.Map // reflect.Type -> map[string]reflect.Type

// fieldsOf gives the JSON fields of a struct type, those of inlined structs
// included.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	if cached, ok := fieldCache.Load(t); ok {
		return cached.(map[string]reflect.Type)
	}
	fields := map[string]reflect.Type{}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && (f.Anonymous || strings.Contains(options, "inline")):
			inlined := f.Type
			if inlined.Kind() == reflect.Pointer {
				inlined = inlined.Elem()
			}
			maps.Copy(fields, fieldsOf(inlined))
		case name == "":
			fields[f.Name] = f.Type
		default:
			fields[name] = f.Type
		}
	}
	fieldCache.Store(t, fields)
	return fields
}
