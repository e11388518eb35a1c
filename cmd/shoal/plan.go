package main

import (
	"context"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/plan"
)

// exitNotOK is the exit code of a plan in which not all runs on.
const exitNotOK = 3

func newPlan(n *node, streams genericiooptions.IOStreams) *cobra.Command {
	c := &cobra.Command{
		Use: "plan", Short: "Say what would happen to pods if hosts were lost or drained",
		Long: "Say what would happen to pods if hosts were lost or drained: which run elsewhere and when, which find no node and why,\n" +
			"which are down with their host, and what that does to disruption budgets. Nothing is changed by it.\n\n" +
			"The exit code is 0 if all pods run on that are not bound to their hosts by their nature (daemon sets' pods and\n" +
			"static ones), 3 if not, 1 after an error.",
	}
	var output string
	lose := &cobra.Command{
		Use: "lose [NODE...]", Short: "Say what would happen if these hosts lost power at once; without a name, each of them alone",
		Example: "  shoal plan lose            # what breaks if any one host is lost?\n  shoal plan lose n2\n  shoal plan lose n2 n3      # both at once",
		RunE: func(cmd *cobra.Command, nodes []string) error {
			return showPlan(cmd.Context(), n, streams.Out, plan.Lose, nodes, output)
		},
	}
	drain := &cobra.Command{
		Use: "drain NODE...", Short: "Say what `shoal drain` of these hosts would do", Args: cobra.MinimumNArgs(1),
		Example: "  shoal plan drain n2",
		RunE: func(cmd *cobra.Command, nodes []string) error {
			return showPlan(cmd.Context(), n, streams.Out, plan.Drain, nodes, output)
		},
	}
	outputFlag(lose, &output)
	outputFlag(drain, &output)
	c.AddCommand(lose, drain)
	return c
}

// showPlan asks for plans and prints them; whether all runs on is the exit code.
func showPlan(ctx context.Context, n *node, w io.Writer, action string, nodes []string, output string) error {
	list, err := fetch[api.PlanList](ctx, n, "plan/"+action+"?"+url.Values{"node": nodes}.Encode())
	if err != nil {
		return err
	}
	err = show(w, output, list, func() {
		if len(nodes) == 0 {
			fmt.Fprint(w, plan.Glance(list.Plans))
		} else {
			for _, p := range list.Plans {
				fmt.Fprint(w, p)
			}
		}
	})
	if err != nil {
		return err
	}
	for _, p := range list.Plans {
		if !p.OK {
			return exitError{code: exitNotOK}
		}
	}
	return nil
}
