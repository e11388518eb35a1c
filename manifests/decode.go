package manifests

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
)

// Object is one object as a file declares it.
type Object struct {
	Key      Key
	Value    runtime.Object // external type in its kind's own version, defaulted, validated; shared, so read-only
	Declared []byte         // canonical JSON of the object as written: sorted keys, namespace filled in, nothing defaulted; holds a Secret's values
	Pos      Position       // where the object begins
	Document int            // index of its document in the file, from 0
}

// Limits on one file.
const (
	// MaxFileSize is the size in bytes above which a file is refused unread.
	MaxFileSize = 4 << 20

	maxDocuments = 10_000
	maxProblems  = 100
)

// Decode reads a file's bytes: YAML or JSON, any number of documents, List
// objects taken apart. It returns every object that is right and every problem
// there is, in the order of the file. Nobody should act on the objects of a
// file that has problems: a part of a file is not what its author meant.
//
// Rules and messages are those of Kubernetes (strict decoding, defaulting and
// the validation of a create request). Like the API server, it drops what only
// the system may write: status and the metadata it manages.
func Decode(file string, data []byte) ([]Object, []Problem) {
	return decodeFile(file, data, false)
}

// decodeFile is Decode; in written files metadata.managedFields counts.
func decodeFile(file string, data []byte, written bool) ([]Object, []Problem) {
	d := &decoder{file: file, written: written, seen: map[Key]Position{}}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	switch {
	case len(data) > MaxFileSize:
		d.problem(mark{}, "", fmt.Sprintf("the file is larger than %d MiB, the most that is read", MaxFileSize>>20), "")
		return nil, d.problems
	case !utf8.Valid(data):
		d.problem(badUTF8(data), "", "the file is not UTF-8 text", "")
		return nil, d.problems
	}
	docs := split(data)
	if len(docs) > maxDocuments {
		d.problem(mark{}, "", fmt.Sprintf("the file has more than %d documents, the most that is read", maxDocuments), "")
		return nil, d.problems
	}
	for i, doc := range docs {
		d.document = i
		tree, err := parse(doc)
		var syntax *syntaxError
		if errors.As(err, &syntax) {
			d.problem(syntax.at, "", syntax.msg, "")
		} else if err != nil {
			d.problem(mark{doc.line, doc.col}, "", err.Error(), "")
		} else if tree != nil {
			d.value(tree, nil)
		}
	}
	sortProblems(d.problems)
	if d.more > 0 {
		d.problems = append(d.problems, Problem{Pos: Position{File: file}, Message: fmt.Sprintf("and %d more problems", d.more)})
	}
	return d.objects, d.problems
}

func badUTF8(data []byte) mark {
	at := cursor{data: data, line: 1, col: 1}
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			at.to(i)
			break
		}
		i += size
	}
	return mark{at.line, at.col}
}

type decoder struct {
	file     string
	written  bool // by the API
	document int
	objects  []Object
	problems []Problem
	more     int // problems past maxProblems
	seen     map[Key]Position
}

func (d *decoder) problem(at mark, path, message, suggestion string) {
	p := Problem{
		Pos:   Position{File: d.file, Line: at.line, Column: at.col},
		Field: visible(path), Message: visible(message), Suggestion: visible(suggestion),
	}
	if len(d.problems) == maxProblems {
		d.more++
		return
	}
	d.problems = append(d.problems, p)
}

// value reads an object or a list of objects; path leads to it in its document.
func (d *decoder) value(n *node, path *field.Path) {
	if n.fields == nil {
		d.problem(n.at, pathText(path), "expected an object with apiVersion and kind, found "+(&shape{}).found(n), "")
		return
	}
	apiVersion, ok1 := d.typeField(n, path, "apiVersion")
	kind, ok2 := d.typeField(n, path, "kind")
	if !ok1 || !ok2 {
		return
	}
	if isList(apiVersion, kind, n) {
		d.list(n, path, apiVersion, kind)
		return
	}
	obj, wrong := newObject(apiVersion, kind)
	if wrong != nil {
		d.problem(n.fields[wrong.field].at, child(path, wrong.field).String(), wrong.message, wrong.suggestion)
		return
	}
	d.object(n, path, obj)
}

// typeField reads apiVersion or kind.
func (d *decoder) typeField(n *node, path *field.Path, name string) (string, bool) {
	v, given := n.fields[name]
	if !given || v.value == nil || v.value == "" {
		guess := closest(name, keysOf(n.fields))
		d.problem(n.at, child(path, name).String(), "Required value: every object needs an apiVersion and a kind"+ifGuess(guess), "")
		return "", false
	}
	text, ok := v.value.(string)
	if !ok {
		d.problem(v.at, child(path, name).String(), "expected a string, found "+(&shape{}).found(v), "")
	}
	return text, ok
}

func ifGuess(written string) string {
	if written == "" {
		return ""
	}
	return fmt.Sprintf(" (is %q a typing mistake?)", written)
}

// list reads the items of a List. Items of a typed list (PodList) may leave
// out what its kind says.
func (d *decoder) list(n *node, path *field.Path, apiVersion, kind string) {
	path = child(path, "items")
	items := n.fields["items"]
	if items.items == nil {
		if items.value != nil {
			d.isList(items, path)
		}
		return
	}
	for i, item := range items.items {
		if kind != "List" && item.fields != nil {
			item.inherit("apiVersion", apiVersion)
			item.inherit("kind", strings.TrimSuffix(kind, "List"))
		}
		d.value(item, path.Index(i))
	}
}

func (d *decoder) isList(n *node, path *field.Path) {
	if _, ok := n.value.([]any); !ok {
		d.problem(n.at, path.String(), "expected a list, found "+(&shape{}).found(n), "")
	}
}

// inherit gives an object a field that its list says for all items.
func (n *node) inherit(name, value string) {
	if _, given := n.fields[name]; !given {
		n.fields[name] = &node{value: value, at: n.at}
		n.keys[name] = n.at
		n.value.(map[string]any)[name] = value
	}
}

// systemMetadata is what clients cannot write; objects that were exported from
// a cluster carry it.
var systemMetadata = []string{
	"uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
	"deletionGracePeriodSeconds", "managedFields", "selfLink",
}

// strip takes away what only the system may write.
func (n *node) strip() {
	n.drop("status")
	if meta := n.fields["metadata"]; meta != nil && meta.fields != nil {
		for _, name := range systemMetadata {
			meta.drop(name)
		}
	}
}

func (n *node) drop(name string) {
	delete(n.fields, name)
	delete(n.value.(map[string]any), name)
}

// object checks one object of a known kind and keeps it if nothing is wrong.
func (d *decoder) object(n *node, path *field.Path, obj runtime.Object) {
	managed := d.managedFields(n)
	n.strip()
	before := len(d.problems) + d.more
	var wrong []string
	s := shape{root: reflect.TypeOf(obj).Elem(), problem: func(at mark, p *field.Path, message, suggestion string) {
		wrong = append(wrong, p.String())
		d.problem(at, join(path, p.String()), strings.Replace(message, `"`+p.String()+`"`, `"`+join(path, p.String())+`"`, 1), suggestion)
	}}
	if s.root.Name() == "Secret" {
		s.hideIn = []string{"data", "stringData"}
	}
	s.check(s.root, n, nil)
	declared, err := canonicalJSON(n.value)
	if err == nil {
		err = kjson.UnmarshalCaseSensitivePreserveInts(declared, obj)
	}
	if err != nil {
		d.problem(n.at, pathText(path), err.Error(), "")
		return
	}
	d.accept(n, path, obj, managed, wrong, before)
}

// managedFields are the books that the API keeps on who applied what; they
// count only where the API wrote them.
func (d *decoder) managedFields(n *node) []metav1.ManagedFieldsEntry {
	meta := n.fields["metadata"]
	if !d.written || meta == nil || meta.fields["managedFields"] == nil {
		return nil
	}
	var entries []metav1.ManagedFieldsEntry
	data, err := json.Marshal(meta.fields["managedFields"].value)
	if err != nil || json.Unmarshal(data, &entries) != nil {
		return nil // somebody edited the file: the next to apply begins new ones
	}
	return entries
}

// setManagedFields puts the books back, with the object that they are of.
func (n *node) setManagedFields(obj metav1.Object, managed []metav1.ManagedFieldsEntry) {
	if len(managed) == 0 {
		return
	}
	obj.SetManagedFields(managed)
	n.fields["metadata"].value.(map[string]any)["managedFields"] = managed
}

// accept defaults and validates a decoded object; wrong lists the fields that
// were taken out of it because they could not be decoded.
func (d *decoder) accept(n *node, path *field.Path, obj runtime.Object, managed []metav1.ManagedFieldsEntry, wrong []string, before int) {
	obj, err := canonical(obj)
	if err != nil {
		d.problem(n.at, pathText(path), err.Error(), "")
		return
	}
	key, err := KeyOf(obj)
	if err != nil {
		d.problem(n.at, pathText(path), err.Error(), "")
		return
	}
	if generated := n.generateName(); key.Name == "" && generated != nil && len(wrong) == 0 {
		d.problem(generated.at, join(path, "metadata.generateName"), "an object in a file needs a fixed name: it would get another one each time the file is read", "metadata.name")
		return
	}
	d.validate(n, path, obj, wrong)
	pos := Position{File: d.file, Line: n.at.line, Column: n.at.col}
	if first, again := d.seen[key]; again {
		d.problem(n.at, pathText(path), fmt.Sprintf("%s is declared twice: first at line %d", nameOf(key), first.Line), "")
	} else if key.Name != "" {
		d.seen[key] = pos
	}
	if len(d.problems)+d.more > before {
		return
	}
	n.setNamespace(key.Namespace)
	n.setManagedFields(obj.(metav1.Object), managed)
	declared, err := canonicalJSON(n.value)
	if err != nil {
		d.problem(n.at, pathText(path), err.Error(), "")
		return
	}
	d.objects = append(d.objects, Object{Key: key, Value: obj, Declared: declared, Pos: pos, Document: d.document})
}

func (d *decoder) validate(n *node, path *field.Path, obj runtime.Object, wrong []string) {
	type said struct{ field, message string }
	once := map[said]bool{}
	all := Validate(obj)
	for _, e := range all {
		this := said{join(path, e.Field), e.ErrorBody()}
		if once[this] || follows(e, wrong) || n.echoes(e, all) {
			continue
		}
		once[this] = true
		d.problem(n.locate(e), this.field, this.message, cmp.Or(supported(e), resourceMeant(e)))
	}
}

// follows says whether a validation error may be only the consequence of a
// field that could not be decoded: it is about that field, about something in
// or around it, or misses one of its neighbours, whose name may be what was
// mistyped.
func follows(e *field.Error, wrong []string) bool {
	for _, w := range wrong {
		if within(e.Field, w) || within(w, e.Field) {
			return true
		}
		bad := reflect.ValueOf(e.BadValue)
		missing := e.Type == field.ErrorTypeRequired || !bad.IsValid() || bad.IsZero()
		if dir := w[:max(0, strings.LastIndexAny(w, ".["))]; missing && (dir == "" || within(e.Field, dir)) {
			return true
		}
	}
	return false
}

func within(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, parent)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// supported is the value of an enumeration that was probably meant.
func supported(e *field.Error) string {
	if e.Type != field.ErrorTypeNotSupported {
		return ""
	}
	var values []string
	for _, q := range quoted.FindAllString(e.Detail, -1) {
		if v, err := strconv.Unquote(q); err == nil {
			values = append(values, v)
		}
	}
	return closest(fmt.Sprint(reflect.Indirect(reflect.ValueOf(e.BadValue))), values)
}

func (n *node) generateName() *node {
	if meta := n.fields["metadata"]; meta != nil {
		return meta.fields["generateName"]
	}
	return nil
}

// setNamespace makes the namespace part of what is declared, so that the same
// object is the same text whether or not its author wrote "default".
func (n *node) setNamespace(namespace string) {
	meta, ok := n.value.(map[string]any)["metadata"].(map[string]any)
	if !ok {
		return // no name either: the object was refused
	}
	if namespace == "" {
		delete(meta, "namespace")
	} else {
		meta["namespace"] = namespace
	}
}

// canonicalJSON is JSON with sorted keys, in the one form that json.Marshal
// leaves as it is when the bytes are part of something larger (<, > and & are
// escaped): what is stored compares equal to what is read.
func canonicalJSON(value any) ([]byte, error) { return json.Marshal(value) }

func nameOf(k Key) string {
	if k.Namespace == "" {
		return k.Kind + " " + k.Name
	}
	return k.Kind + " " + k.Namespace + "/" + k.Name
}

func pathText(path *field.Path) string {
	if path == nil {
		return ""
	}
	return path.String()
}

// join puts the path of a list's item before a path in that item.
func join(path *field.Path, rest string) string {
	switch {
	case path == nil:
		return rest
	case rest == "" || rest == "<nil>":
		return path.String()
	}
	return path.String() + "." + rest
}
