package lease

import "testing"

func TestOfTwoLogsOneGivesWay(t *testing.T) {
	for _, test := range []struct {
		name         string
		mine, theirs Rival
		want, turned Meeting // turned: as the other side sees it
	}{
		{"the younger of two lone ones", Rival{"b", 1}, Rival{"a", 1}, Give, Stay},
		{"a lone one to several, though it is older", Rival{"a", 1}, Rival{"b", 3}, Give, Stay},
		{"several and several", Rival{"a", 2}, Rival{"b", 3}, Apart, Apart},
		{"one that a person recovered stands for what it was", Rival{"a", 3}, Rival{"a-1-x", 1}, Past, Stay},
		{"of two recoveries the later one", Rival{"a-1-x", 3}, Rival{"a-2-y", 1}, Past, Stay},
		{"two recoveries of one log, on two hosts", Rival{"a-1-y", 1}, Rival{"a-1-x", 1}, Give, Stay},
		{"what was recovered is not the past of others", Rival{"b", 3}, Rival{"a-1-x", 3}, Apart, Apart},
	} {
		if got := Meet(test.mine, test.theirs); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
		if got := Meet(test.theirs, test.mine); got != test.turned {
			t.Errorf("%s, turned: got %v, want %v", test.name, got, test.turned)
		}
	}
	if got := Recovered(Recovered("a", "x"), "y"); got != "a-2-y" {
		t.Errorf("recovered twice: %s", got)
	}
}
