package chaos

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Appended is one line of an exclusive writer's log.
type Appended struct {
	Identity string
	Token    uint64        // the fencing token in its environment
	At       time.Duration // CLOCK_BOOTTIME, which the hosts of a bed share
	Writer   string        // host, pod and container run: one process' whole life
}

func (a Appended) String() string {
	return fmt.Sprintf("%s with token %d at %.2fs", a.Writer, a.Token, a.At.Seconds())
}

// ReadAppended reads lines "IDENTITY TOKEN SECONDS WRITER". A last line without its end is left out: the power was cut amid it.
func ReadAppended(text string) ([]Appended, error) {
	var list []Appended
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		f := strings.Fields(line)
		if len(f) != 4 {
			return list, fmt.Errorf("%q: want IDENTITY TOKEN SECONDS WRITER", line)
		}
		token, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			return list, fmt.Errorf("%q: %w", line, err)
		}
		at, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return list, fmt.Errorf("%q: %w", line, err)
		}
		list = append(list, Appended{f[0], token, time.Duration(at * float64(time.Second)), f[3]})
	}
	return list, nil
}

// Overlaps finds where two writers of one identity wrote in turns, or one with a lower token after one with a higher. The
// clock's ticks are wide: of what was written at one time the order is not known, and the kinder one is taken.
func Overlaps(all []Appended) []string {
	var found []string
	by := make(map[string][]Appended)
	for _, a := range all {
		by[a.Identity] = append(by[a.Identity], a)
	}
	for identity, list := range by {
		type life struct{ first, last Appended }
		lives := make(map[string]life)
		tokens := make(map[uint64]string) // by token, the host that had it
		for _, a := range list {
			l, known := lives[a.Writer]
			if !known {
				l = life{a, a}
			}
			if a.Token != l.first.Token {
				found = append(found, fmt.Sprintf("%s: %v, and before %v: a process' token changed", identity, a, l.first))
			}
			if a.At < l.first.At {
				l.first = a
			}
			if a.At > l.last.At {
				l.last = a
			}
			lives[a.Writer] = l
			host, _, _ := strings.Cut(a.Writer, "/")
			if other, known := tokens[a.Token]; known && other != host {
				found = append(found, fmt.Sprintf("%s: %s and %s had token %d", identity, other, host, a.Token))
			}
			tokens[a.Token] = host
		}
		sorted := make([]life, 0, len(lives))
		for _, l := range lives {
			sorted = append(sorted, l)
		}
		slices.SortFunc(sorted, func(a, b life) int {
			return cmp.Or(cmp.Compare(a.first.At, b.first.At), cmp.Compare(a.last.At, b.last.At), cmp.Compare(a.first.Token, b.first.Token))
		})
		for i := range sorted {
			for _, later := range sorted[i+1:] {
				before := sorted[i]
				if later.first.At < before.last.At {
					found = append(found, fmt.Sprintf("%s: %v began before %v ended", identity, later.first, before.last))
				}
				if later.first.Token < before.first.Token {
					found = append(found, fmt.Sprintf("%s: %v came after %v", identity, later.first, before.last))
				}
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
