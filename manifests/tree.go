package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	yamlv2 "go.yaml.in/yaml/v2"
	"go.yaml.in/yaml/v3"
	sigsyaml "sigs.k8s.io/yaml"
)

// Limits on one document. Kubernetes' API server takes objects of up to about
// 1.5 MiB; the numbers bound the memory that a hostile file can cost to about
// a hundred megabytes for the moment that it is read.
const (
	maxDepth    = 100
	maxTokens   = 500_000 // line ends, commas, colons, brackets
	maxExpanded = 8 << 20 // bytes after aliases are expanded, 64 for each node
	nodeCost    = 64
)

// mark is a place in a file, both from 1.
type mark struct{ line, col int }

// node is a value of a document and where it stands. Values are those that
// Kubernetes' own decoder reads; positions come from a second parser and are
// those of the nearest known parent where the two disagree.
type node struct {
	value    any // nil, bool, json.Number, string, []any or map[string]any
	at       mark
	plain    string // the scalar as written, if without quotes
	fields   map[string]*node
	keys     map[string]mark
	repeated []repeat
	items    []*node
}

// repeat is a key that stands twice in one mapping.
type repeat struct {
	key       string
	at, first mark
}

// syntaxError is a document that no parser could read.
type syntaxError struct {
	at  mark
	msg string
}

func (e *syntaxError) Error() string { return e.msg }

// parse reads a document. It returns nil for one that holds nothing.
func parse(doc document) (*node, error) {
	var tokens int
	for _, c := range []byte("\n,:[{") {
		tokens += bytes.Count(doc.text, []byte{c})
	}
	if tokens > maxTokens {
		return nil, &syntaxError{mark{doc.line, doc.col}, fmt.Sprintf("the document has more than %d lines and elements, the most that is read", maxTokens)}
	}
	read, convert := readYAML, sigsyaml.YAMLToJSON
	if doc.json {
		read, convert = readJSON, func(text []byte) ([]byte, error) { return text, nil }
	}
	tree, err := read(doc)
	if err != nil || tree == nil {
		return nil, err
	}
	if err := checkTree(doc, tree); err != nil {
		return nil, err
	}
	text, err := convert(doc.text)
	if err != nil {
		return nil, yamlError(doc, err)
	}
	var value any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil {
		return nil, yamlError(doc, err)
	}
	if value == nil {
		return nil, nil
	}
	return place{doc}.join(value, tree, mark{doc.line, doc.col}), nil
}

func readYAML(doc document) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(doc.text))
	var root, rest yaml.Node
	if err := dec.Decode(&root); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil && doc.notJSON != nil {
		return nil, doc.notJSON
	} else if err != nil {
		return nil, yamlError(doc, err)
	}
	if err := dec.Decode(&rest); err == nil {
		return nil, &syntaxError{place{doc}.mark(&rest), `text after the document's end ("..."): begin the next document with "---"`}
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(doc, err)
	}
	return root.Content[0], nil
}

// readJSON gives JSON the tree that the YAML parser would. It is not given to
// that parser because JSON is not quite YAML: "\ud83d\ude00" is one character.
func readJSON(doc document) (*yaml.Node, error) {
	dec := json.NewDecoder(bytes.NewReader(doc.text))
	dec.UseNumber()
	r := jsonReader{dec: dec, at: cursor{data: doc.text, line: 1, col: 1}}
	n, err := r.value(0)
	if err != nil {
		return nil, &syntaxError{place{doc}.mark(&yaml.Node{Line: r.at.line, Column: r.at.col}), err.Error()}
	}
	return n, nil
}

type jsonReader struct {
	dec *json.Decoder
	at  cursor
}

func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d levels deep", maxDepth)
	}
	start := int(r.dec.InputOffset())
	start += len(r.at.data[start:]) - len(bytes.TrimLeft(r.at.data[start:], " \t\r\n,:"))
	r.at.to(start)
	n := &yaml.Node{Line: r.at.line, Column: r.at.col}
	tok, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := tok.(type) {
	case json.Delim:
		n.Kind = yaml.SequenceNode
		if t == '{' {
			n.Kind = yaml.MappingNode
		}
		for r.dec.More() {
			child, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, err = r.dec.Token()
		return n, err
	case string:
		n.Kind, n.Value, n.Style = yaml.ScalarNode, t, yaml.DoubleQuotedStyle
	default:
		n.Kind, n.Value = yaml.ScalarNode, fmt.Sprint(t)
	}
	return n, nil
}

// checkTree refuses what would be costly or ambiguous to read further: depth,
// aliases that multiply, keys that no JSON object can have.
func checkTree(doc document, root *yaml.Node) error {
	m := measure{doc: place{doc}, known: map[*yaml.Node]weight{}}
	w, err := m.of(root, 0)
	if err == nil && w.size > maxExpanded {
		return &syntaxError{m.doc.mark(root), fmt.Sprintf("the document is larger than %d MiB once its aliases are expanded", maxExpanded>>20)}
	}
	return err
}

// weight is what a node comes to with its aliases expanded.
type weight struct{ size, depth int }

type measure struct {
	doc   place
	known map[*yaml.Node]weight // of nodes with an anchor; {-1, 0} while inside one
}

func (m *measure) of(n *yaml.Node, depth int) (weight, error) {
	if depth > maxDepth {
		return weight{}, &syntaxError{m.doc.mark(n), fmt.Sprintf("nested more than %d levels deep", maxDepth)}
	}
	if n.Kind == yaml.AliasNode {
		w, known := m.known[n.Alias]
		if !known || w.size < 0 {
			return weight{}, &syntaxError{m.doc.mark(n), fmt.Sprintf("anchor '%s' value contains itself", n.Value)}
		}
		if depth+w.depth > maxDepth {
			return weight{}, &syntaxError{m.doc.mark(n), fmt.Sprintf("nested more than %d levels deep", maxDepth)}
		}
		return w, nil
	}
	if n.Anchor != "" {
		m.known[n] = weight{size: -1}
	}
	w := weight{size: nodeCost + len(n.Value)}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			if err := m.key(child); err != nil {
				return weight{}, err
			}
		}
		c, err := m.of(child, depth+1)
		if err != nil {
			return weight{}, err
		}
		w.size = min(w.size+c.size, maxExpanded+1)
		w.depth = max(w.depth, c.depth+1)
	}
	if n.Anchor != "" {
		m.known[n] = w
	}
	return w, nil
}

func (m *measure) key(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		return &syntaxError{m.doc.mark(n), "a key must be a string, not an object or a list (a template that was not rendered?)"}
	}
	if n.Tag == "!!null" || n.Tag == "!!binary" {
		return &syntaxError{m.doc.mark(n), "a key must be a string, not empty or binary"}
	}
	return nil
}

// place translates the positions within a document into those of its file.
type place struct{ document }

func (p place) mark(n *yaml.Node) mark { return p.translate(n.Line, n.Column) }

func (p place) translate(line, col int) mark {
	if line <= 1 {
		return mark{p.line, p.col + max(col, 1) - 1}
	}
	return mark{p.line + line - 1, col}
}

// join walks a value and the tree that it was read from side by side.
func (p place) join(value any, y *yaml.Node, at mark) *node {
	for y != nil && y.Kind == yaml.AliasNode {
		y = y.Alias
	}
	n := &node{value: value, at: at}
	if y != nil {
		n.at = p.mark(y)
	}
	switch v := value.(type) {
	case map[string]any:
		places := places{p: p, in: v, at: map[string]pair{}}
		places.add(y, false)
		n.fields, n.keys, n.repeated = make(map[string]*node, len(v)), make(map[string]mark, len(v)), places.repeated
		for k, child := range v {
			at := places.at[k]
			n.keys[k] = n.at
			if at.key != nil {
				n.keys[k] = p.mark(at.key)
			}
			n.fields[k] = p.join(child, at.value, n.keys[k])
		}
	case []any:
		for i, child := range v {
			var item *yaml.Node
			if y != nil && y.Kind == yaml.SequenceNode && i < len(y.Content) {
				item = y.Content[i]
			}
			n.items = append(n.items, p.join(child, item, n.at))
		}
	default:
		if y != nil && y.Kind == yaml.ScalarNode && y.Style == 0 {
			n.plain = y.Value
		}
	}
	return n
}

// places collects where the keys of one mapping stand, with what it merges in.
type places struct {
	p        place
	in       map[string]any
	at       map[string]pair
	repeated []repeat
}

type pair struct{ key, value *yaml.Node }

// add takes the pairs of y in their order, later ones over earlier ones, as
// the YAML 1.1 decoder does; merged says that they come from a "<<".
func (c *places) add(y *yaml.Node, merged bool) {
	for y != nil && y.Kind == yaml.AliasNode {
		y = y.Alias
	}
	if y == nil {
		return
	}
	if y.Kind == yaml.SequenceNode && merged {
		for i := len(y.Content) - 1; i >= 0; i-- {
			c.add(y.Content[i], true)
		}
		return
	}
	if y.Kind != yaml.MappingNode {
		return
	}
	own := map[string]*yaml.Node{}
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		if key.Tag == "!!merge" {
			c.add(value, true)
			continue
		}
		name := c.name(key)
		if first := own[name]; first != nil && !merged {
			c.repeated = append(c.repeated, repeat{name, c.p.mark(key), c.p.mark(first)})
		}
		own[name] = key
		c.at[name] = pair{key, value}
	}
}

// name is a key as the decoder reads it: the plain key yes is "true".
func (c *places) name(key *yaml.Node) string {
	if key.Kind == yaml.AliasNode {
		key = key.Alias
	}
	if _, ok := c.in[key.Value]; ok || key.Style != 0 {
		return key.Value
	}
	text, err := sigsyaml.YAMLToJSON([]byte(key.Value))
	if err != nil {
		return key.Value
	}
	return strings.Trim(string(text), `"`)
}

var (
	yamlLine      = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced`)
)

// yamlError places a YAML parser's error. The parser knows only the line; the
// column is that of the line's first character that is no blank.
func yamlError(doc document, err error) *syntaxError {
	line, msg := yamlMessage(err)
	if strings.HasPrefix(msg, "did not find expected ") {
		// Where the grammar is at fault, version 3 gives the line on which the
		// surrounding block begins; version 2 that of the mistake, from 0.
		if l, m := yamlMessage(yamlv2.Unmarshal(doc.text, &unread{})); strings.HasPrefix(m, "did not find expected ") {
			line, msg = l+1, m
		}
	}
	// What follows quotes the document, which may hold secrets.
	msg, _, _ = strings.Cut(msg, ", key: ")
	lines := bytes.Split(doc.text, []byte("\n"))
	line = max(1, min(line, len(lines)))
	if m := unknownAnchor.FindStringSubmatch(msg); m != nil {
		line = 1 + bytes.Count(doc.text[:max(0, bytes.Index(doc.text, []byte("*"+m[1])))], []byte("\n"))
	}
	text := lines[line-1]
	blank := len(text) - len(bytes.TrimLeft(text, " "))
	at := place{doc}.translate(line, 1+blank)
	return &syntaxError{at, "the YAML cannot be read: " + msg + hint(msg, text)}
}

// unread takes a document without decoding it, so that only its syntax counts.
type unread struct{}

func (unread) UnmarshalYAML(func(any) error) error { return nil }

// yamlMessage takes the line, 0 if there is none, off a YAML parser's error.
func yamlMessage(err error) (line int, msg string) {
	if err == nil {
		return 0, ""
	}
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		return 0, err.Error()
	}
	line, _ = strconv.Atoi(m[1]) // "" is 0
	return line, err.Error()[len(m[0]):]
}

// hint explains the parser's terser messages.
func hint(msg string, line []byte) string {
	switch {
	case bytes.Contains(line, []byte("{{")):
		return ` (the line holds a template's "{{": render it first, for instance with helm template)`
	case bytes.HasPrefix(bytes.TrimLeft(line, " "), []byte("\t")):
		return " (YAML is indented with spaces, never with tabs)"
	case strings.Contains(msg, "mapping values are not allowed"):
		return ` (is the line indented too far, or does a value with ": " in it lack quotes?)`
	case strings.Contains(msg, "did not find expected key"), strings.Contains(msg, "did not find expected '-'"):
		return " (the line, or the one before it, is indented differently from its neighbours)"
	case strings.Contains(msg, "expected <document start>"):
		return ` (the next document begins with a line "---")`
	case strings.Contains(msg, "unexpected end of stream"):
		return " (a quote is never closed, or the file was cut off)"
	case strings.Contains(msg, "could not find expected ':'"):
		return ` (a key without its ":", or a text that was cut off)`
	case strings.Contains(msg, "cannot start any token"):
		return " (a value that begins with this character needs quotes)"
	}
	return ""
}
