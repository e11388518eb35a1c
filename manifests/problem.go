package manifests

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Position is a place in a file. Line and column count from 1; columns count
// characters, not bytes. Lines end where YAML 1.1 has them end: at a carriage
// return by itself, too. A zero line means the file as a whole.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String is file:line:column, the form that editors and terminals link.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Compare orders positions by file, line and column.
func (p Position) Compare(q Position) int {
	return cmp.Or(strings.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Column, q.Column))
}

// Problem is something wrong with a file. The other files still count.
type Problem struct {
	Pos        Position `json:"pos"`
	Field      string   `json:"field,omitempty"`      // path as Kubernetes writes it; in a List it begins with items[n]
	Message    string   `json:"message"`              // what is wrong and what is expected, in upstream's words where it has any
	Suggestion string   `json:"suggestion,omitempty"` // what was probably meant; "" without a good guess
}

// Error is "file:line:column: field: what is wrong (did you mean x?)".
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Pos.String())
	b.WriteString(": ")
	if p.Field != "" && !strings.Contains(p.Message, `"`+p.Field+`"`) {
		b.WriteString(p.Field)
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	if p.Suggestion != "" {
		fmt.Fprintf(&b, " (did you mean %s?)", p.Suggestion)
	}
	return b.String()
}

// visible is text with its control characters as Go writes them (\x1b): a file's
// keys are told to terminals, and must not move their cursors.
func visible(text string) string {
	if !strings.ContainsFunc(text, unicode.IsControl) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// sortProblems brings problems into the order in which a reader meets them.
func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(a.Pos.Compare(b.Pos), strings.Compare(a.Field, b.Field))
	})
}
