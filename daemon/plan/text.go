package plan

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// String is the outcome for people: what is assumed, a table of pods, of
// workloads and budgets where there are any, and what it comes to.
func (o Outcome) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, o.heading())
	if len(o.Pods) == 0 {
		fmt.Fprintln(&b, "No pod runs there.")
	} else {
		o.pods(&b)
	}
	o.rest(&b)
	for _, note := range o.Notes {
		fmt.Fprintln(&b, "Note: "+note)
	}
	if len(o.Flags) > 0 {
		fmt.Fprintln(&b, "`shoal drain` would ask for "+strings.Join(o.Flags, " ")+" first.")
	}
	fmt.Fprintln(&b, o.Verdict())
	return b.String()
}

func (o Outcome) heading() string {
	names := strings.Join(o.Nodes, " and ") + " is"
	if len(o.Nodes) > 1 {
		names = strings.TrimSuffix(names, "is") + "are"
	}
	switch {
	case o.Action == Drain:
		return "If " + names + " drained:"
	case o.Frozen != "":
		return fmt.Sprintf("If %s lost, NOTHING is started elsewhere: %s.", names, o.Frozen)
	}
	return fmt.Sprintf("If %s lost, %d of %d members are in sight, enough to start pods elsewhere:", names, o.Left, o.Members)
}

// Verdict is what it comes to, in a sentence.
func (o Outcome) Verdict() string {
	n := make(map[string]int)
	for _, p := range o.Pods {
		if !p.Natural {
			n[p.Fate]++
		}
	}
	var parts []string
	for _, f := range []struct{ fate, words string }{
		{Moves, "run elsewhere"}, {Surplus, "are not needed"}, {Pending, "find no node"}, {Down, "are down"}, {Ends, "are gone for good"}, {Blocked, "keep the drain from ending"}, {Returns, "come back to the same hosts"},
	} {
		if n[f.fate] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[f.fate], f.words))
		}
	}
	verdict := "OK"
	if !o.OK {
		verdict = "NOT OK"
	}
	if len(parts) == 0 {
		return verdict + ": nothing has to move"
	}
	return verdict + ": of the pods that are not bound to their host, " + strings.Join(parts, ", ")
}

func table(b *strings.Builder, rows ...[]string) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	w.Flush()
}

func (o Outcome) pods(b *strings.Builder) {
	rows := [][]string{{"NAMESPACE", "POD", "OWNER", "NODE", "FATE", "TO", "AFTER", "WHY"}}
	for _, p := range o.Pods {
		after := "-"
		if p.After != nil {
			after = fmt.Sprintf("%.1fs", *p.After)
		}
		rows = append(rows, []string{p.Namespace, p.Name, dash(p.Owner), p.Node, p.Fate, dash(p.To), after, p.Why})
	}
	table(b, rows...)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (o Outcome) rest(b *strings.Builder) {
	if len(o.Workloads) > 0 {
		rows := [][]string{{"NAMESPACE", "WORKLOAD", "DESIRED", "READY", "LEAST", "END"}}
		for _, w := range o.Workloads {
			rows = append(rows, []string{w.Namespace, w.Name, fmt.Sprint(w.Desired), fmt.Sprint(w.Now), fmt.Sprint(w.Least), fmt.Sprint(w.After)})
		}
		fmt.Fprintln(b)
		table(b, rows...)
	}
	if len(o.Budgets) > 0 {
		rows := [][]string{{"NAMESPACE", "BUDGET", "WANTS", "HEALTHY", "LEAST", "END", ""}}
		for _, w := range o.Budgets {
			below := ""
			if w.Least < w.Desired {
				below = "falls below what it wants"
			}
			rows = append(rows, []string{w.Namespace, w.Name, fmt.Sprint(w.Desired), fmt.Sprint(w.Now), fmt.Sprint(w.Least), fmt.Sprint(w.After), below})
		}
		fmt.Fprintln(b)
		table(b, rows...)
	}
	fmt.Fprintln(b)
}

// Glance is several outcomes, one a line.
func Glance(list []Outcome) string {
	rows := [][]string{{"IF LOST", "LEFT", "MOVE", "PENDING", "DOWN", "GONE", "WITH HOST", "BELOW BUDGET", "VERDICT"}}
	for _, o := range list {
		n := make(map[string]int)
		natural, below := 0, 0
		for _, p := range o.Pods {
			if p.Natural {
				natural++
			} else {
				n[p.Fate]++
			}
		}
		for _, w := range o.Budgets {
			if w.Least < w.Desired {
				below++
			}
		}
		verdict := "survives"
		switch {
		case o.Frozen != "":
			verdict = "nothing is started elsewhere: " + o.Frozen
		case !o.OK:
			verdict = "not all runs on"
		}
		rows = append(rows, []string{strings.Join(o.Nodes, ","), fmt.Sprintf("%d/%d", o.Left, o.Members), fmt.Sprint(n[Moves]), fmt.Sprint(n[Pending]),
			fmt.Sprint(n[Down]), fmt.Sprint(n[Ends]), fmt.Sprint(natural), fmt.Sprint(below), verdict})
	}
	var b strings.Builder
	table(&b, rows...)
	return b.String()
}
