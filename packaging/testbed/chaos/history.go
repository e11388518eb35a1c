package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Call is something that was asked of the API: that an object say Value. Times are since the storm began.
type Call struct {
	Value string // "": that there be no such object
	Begin time.Duration
	End   time.Duration // when it was answered; 0: it failed, broke off, or was never answered, and may be in force all the same
	By    string        // who asked, for people
}

func (c Call) String() string {
	answer := "unanswered"
	if c.End > 0 {
		answer = fmt.Sprintf("answered at %.2fs", c.End.Seconds())
	}
	return fmt.Sprintf("%q by %s at %.2fs, %s", c.Value, c.By, c.Begin.Seconds(), answer)
}

// History is all that was asked of one object, in any order.
type History []Call

// Last are the calls whose value may be the one in force: those after whose answer no other was begun that was answered too.
func (h History) Last() History {
	var last History
	for _, c := range h {
		superseded := slices.ContainsFunc(h, func(later Call) bool {
			return later.End > 0 && c.End > 0 && later.Begin > c.End
		})
		if !superseded {
			last = append(last, c)
		}
	}
	return last
}

// Lost says what is wrong where value is in force now: nothing, or which calls it should be one of. Before the first that was
// answered there is no such object.
func (h History) Lost(value string) string {
	last := h.Last()
	if value == "" && !slices.ContainsFunc(h, func(c Call) bool { return c.End > 0 }) {
		return ""
	}
	if slices.ContainsFunc(last, func(c Call) bool { return c.Value == value }) {
		return ""
	}
	var lines []string
	for _, c := range last {
		lines = append(lines, c.String())
	}
	return fmt.Sprintf("says %q, which is none of: %s", value, strings.Join(lines, "; "))
}

// Known is a history in which nothing is in doubt: value is in force, and everybody sees it.
func Known(value string, at time.Duration) History {
	return History{{Value: value, Begin: at, End: at + 1, By: "what was seen"}}
}
