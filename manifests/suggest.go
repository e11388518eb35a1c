package manifests

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// closest is the candidate that a typing mistake most likely turned into got:
// one that differs in case or punctuation only, or by at most a third of its
// letters. "" when there is none.
func closest(got string, candidates []string) string {
	best, bestDistance := "", 0
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if c == got || c == "" {
			continue
		}
		d := 0
		if plainLetters(c) != plainLetters(got) {
			d = distance(strings.ToLower(got), strings.ToLower(c))
			if d > max(1, min(len(c), len(got))/3) {
				continue
			}
		}
		if best == "" || d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

func plainLetters(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToLower(s))
}

// maxWord bounds the cost of distance; no field, kind or value that could be
// suggested is longer.
const maxWord = 64

// distance counts the insertions, deletions, replacements and swaps of
// neighbours between a and b (optimal string alignment).
func distance(a, b string) int {
	if len(a) > maxWord || len(b) > maxWord {
		return maxWord
	}
	var before, prev []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, prev, row = prev, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// elsewhere finds the nearest place below root where a field of this name may
// stand, such as spec.template.spec.containers. "" when there is none: deeper
// than six levels, a hint would be a guess.
func elsewhere(root reflect.Type, name string) string {
	type place struct {
		t    reflect.Type
		path string
	}
	level, seen := []place{{root, ""}}, map[reflect.Type]bool{}
	for range 6 {
		var next []place
		for _, p := range level {
			if seen[p.t] {
				continue
			}
			seen[p.t] = true
			fields := fieldsOf(p.t)
			for _, f := range slices.Sorted(maps.Keys(fields)) {
				path := strings.TrimPrefix(p.path+"."+f, ".")
				if f == name {
					return path
				}
				t := fields[f]
				for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
					if t.Kind() == reflect.Slice {
						path += "[]"
					}
					t = t.Elem()
				}
				if t.Kind() == reflect.Struct && f != "status" && !decodesItself(t) {
					next = append(next, place{t, path})
				}
			}
		}
		level = next
	}
	return ""
}
