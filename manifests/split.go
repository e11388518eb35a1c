package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// document is one YAML document or JSON value of a file.
type document struct {
	text []byte
	line int // of the file, on which text begins; from 1
	col  int // in that line, from 1; other than 1 only for JSON
	json bool

	notJSON *syntaxError // set if the text begins as JSON but goes on as something else
}

// split cuts a file into its documents, so that a mistake in one does not hide
// the next. A line that begins with "---" starts a document wherever it
// stands, even in a block scalar (YAML 1.2, section 9.1.2), so no parser is
// needed to find it.
func split(data []byte) []document {
	var notJSON *syntaxError
	if first := bytes.TrimLeft(data, " \t\r\n"); len(first) > 0 && first[0] == '{' {
		docs, err := splitJSON(data)
		if err == nil {
			return docs
		}
		if !bytes.HasPrefix(first, []byte("{{")) {
			notJSON = err
		}
	}
	docs := splitYAML(data)
	docs[0].notJSON = notJSON
	return docs
}

func splitYAML(data []byte) []document {
	var docs []document
	start, startLine, line := 0, 1, 1
	onlyDirectives := true
	for pos := 0; pos < len(data) && len(docs) <= maxDocuments; line++ {
		end := pos + bytes.IndexByte(data[pos:], '\n') + 1
		if end == pos {
			end = len(data)
		}
		text := data[pos:end]
		switch {
		case startsDocument(text) && !onlyDirectives:
			docs = append(docs, document{text: data[start:pos], line: startLine, col: 1})
			start, startLine, onlyDirectives = pos, line, false
		case startsDocument(text):
			onlyDirectives = false
		case !isDirectiveOrBlank(text):
			onlyDirectives = false
		}
		pos = end
	}
	return append(docs, document{text: data[start:], line: startLine, col: 1})
}

func startsDocument(line []byte) bool {
	rest, found := bytes.CutPrefix(line, []byte("---"))
	return found && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

// isDirectiveOrBlank says whether a line may stand before the first "---"
// without being a document of its own.
func isDirectiveOrBlank(line []byte) bool {
	line = bytes.TrimSpace(line)
	return len(line) == 0 || line[0] == '%' || line[0] == '#'
}

// splitJSON cuts JSON values that follow one another, as kubectl accepts them.
// If data is no JSON it says why; YAML may begin with a brace as well.
func splitJSON(data []byte) ([]document, *syntaxError) {
	var docs []document
	at := cursor{data: data, line: 1, col: 1}
	dec := json.NewDecoder(bytes.NewReader(data))
	for dec.More() && len(docs) <= maxDocuments {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			offset := len(data)
			var syntax *json.SyntaxError
			if errors.As(err, &syntax) {
				offset = int(syntax.Offset) - 1
			}
			at.to(min(offset, len(data)))
			return nil, &syntaxError{mark{at.line, at.col}, "the JSON cannot be read: " + err.Error()}
		}
		at.to(int(dec.InputOffset()) - len(raw))
		docs = append(docs, document{text: raw, line: at.line, col: at.col, json: true})
	}
	at.to(int(dec.InputOffset()))
	if len(docs) > maxDocuments {
		return docs, nil // refused, whatever follows
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, &syntaxError{mark{at.line, at.col}, fmt.Sprintf("the JSON cannot be read: %v", err)}
	}
	return docs, nil
}

// cursor follows offsets that only grow, so that placing all of them costs one
// walk over the data.
type cursor struct {
	data      []byte
	offset    int
	line, col int
}

func (c *cursor) to(offset int) {
	for c.offset < offset {
		r, size := utf8.DecodeRune(c.data[c.offset:])
		c.offset += size
		c.col++
		if r == '\n' {
			c.line, c.col = c.line+1, 1
		}
	}
}
