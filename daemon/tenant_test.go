package daemon

import (
	"testing"

	"github.com/shoal-project/shoal/daemon/tenure"
)

func TestWhatALeaseProcessIsSurvivesGossip(t *testing.T) {
	for _, want := range []leaseTag{
		{tenure.Witness{Store: "abc", Log: "0f-1-x", Seats: 3}, 7948, true},
		{tenure.Witness{Store: "abc"}, 1, false},
	} {
		if got, ok := parseLeaseTag(want.String()); !ok || got != want {
			t.Errorf("%q became %+v, %v", want, got, ok)
		}
	}
	for _, bad := range []string{"", "7948", "0/a/b/1/", "70000/a/b/1/", "7948//b/1/", "7948/a/b/-1/", "7948/a/b/x/"} {
		if got, ok := parseLeaseTag(bad); ok {
			t.Errorf("%q was taken for %+v", bad, got)
		}
	}
}
