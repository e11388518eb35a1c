package main

import (
	"cmp"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/shoal-project/shoal/daemon/api"
)

// exitNotFound is the exit code of a look-up that finds no address, as getent's.
const exitNotFound = 2

func newDNS(n *node, streams genericiooptions.IOStreams) *cobra.Command {
	c := &cobra.Command{Use: "dns", Short: "Say how names are resolved"}
	var from, output string
	lookup := &cobra.Command{
		Use: "lookup NAME [--from POD]", Short: "Take the steps of a pod's resolver for a name, and say why each was the last or not", Args: cobra.ExactArgs(1),
		Long: "Take the steps that a pod's resolver takes for a name, along the pod's search list, and say why each was the last or not.\n" +
			"The pod runs on this host. Without --from the name is looked up as it stands.\n\n" +
			"The exit code is 0 if an address is found, 2 if not, 1 after an error.",
		Example: "  shoal dns lookup web --from client\n  shoal dns lookup example.org --from client -n shop\n  shoal dns lookup web.default.svc.cluster.local",
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"name": args}
			if from != "" {
				pod, err := podName([]string{from})
				if err != nil {
					return err
				}
				q.Set("namespace", n.namespace)
				q.Set("pod", pod)
			}
			l, err := fetch[api.DNSLookup](cmd.Context(), n, "dns/lookup?"+q.Encode())
			if err != nil {
				return err
			}
			if err := show(streams.Out, output, l, func() { printLookup(streams.Out, l) }); err != nil {
				return err
			}
			if len(l.Steps) == 0 || !l.Steps[len(l.Steps)-1].Found {
				return exitError{code: exitNotFound}
			}
			return nil
		},
	}
	lookup.Flags().StringVar(&from, "from", "", "the pod that asks")
	outputFlag(lookup, &output)
	c.AddCommand(lookup)
	return c
}

func printLookup(w io.Writer, l api.DNSLookup) {
	if len(l.Nameservers) > 0 {
		fmt.Fprintf(w, "It asks %s; search %s; options %s\n", strings.Join(l.Nameservers, ", "), cmp.Or(strings.Join(l.Search, " "), "none"), cmp.Or(strings.Join(l.Options, " "), "none"))
	}
	if l.Completed {
		fmt.Fprintln(w, "The server answers the first question of a walk with what the walk comes to (annotation shoal.io/dns-search: client ends that).")
	}
	if l.Note != "" {
		fmt.Fprintln(w, l.Note)
	}
	rows := [][]string{{"NAME", "ANSWER", "BY", "WHY"}}
	for _, s := range l.Steps {
		said := s.Code
		if len(s.Records) > 0 {
			said = strings.Join(s.Records, ", ")
		}
		rows = append(rows, []string{s.Name, said, map[string]string{"zone": "cluster", "forward": "elsewhere"}[s.Source], s.Why})
	}
	columns(w, rows)
}
