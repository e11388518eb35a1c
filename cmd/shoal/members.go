package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/cluster"
)

func newKeygen(streams genericiooptions.IOStreams) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "keygen", Short: "Make a cluster key", Args: cobra.NoArgs,
		Long: "Make a key for a cluster of several hosts. All of them need the same, in " + cluster.KeyFile + ", mode 0600.\n" +
			"Whoever has it is root of the cluster.",
		Example: "  shoal keygen --out " + cluster.KeyFile + "    # on one host; copy the file to the others",
		RunE: func(*cobra.Command, []string) error {
			text := cluster.NewKey().Text() + "\n"
			if out == "" {
				_, err := io.WriteString(streams.Out, text)
				return err
			}
			return writeKey(out, text)
		},
	}
	c.Flags().StringVar(&out, "out", "", "the `file` to write it to, which must not be there yet; else it is printed")
	return c
}

// writeKey makes the file, and never replaces one: hosts that use the old key
// would lose each other.
func writeKey(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: hosts that use its key would lose each other. If none does, remove it first", path)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func newMembers(n *node, streams genericiooptions.IOStreams) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "members", Short: "Show the hosts of the cluster, and what keeps others apart", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := fetch[api.MemberList](cmd.Context(), n, "members")
			if err != nil {
				return err
			}
			return show(streams.Out, output, list, func() { printMembers(streams.Out, list, time.Now()) })
		},
	}
	outputFlag(c, &output)
	return c
}

func printMembers(w io.Writer, list api.MemberList, now time.Time) {
	rows := [][]string{{"NAME", "STATUS", "SINCE", "ADDRESS", "VERSION", "RECORD", "BEHIND", "LAGS"}}
	for _, m := range list.Members {
		name, status, since := m.Name, m.Status, ""
		if m.Self {
			name += " (this)"
		}
		if m.Status == "alive" && !m.Ready {
			status += ", not ready"
		}
		if !m.Since.IsZero() {
			since = duration.HumanDuration(now.Sub(m.Since))
		}
		rows = append(rows, []string{name, status, since, m.Address, m.Version, strconv.FormatUint(m.Seq, 10), changes(m.Behind), changes(m.Lags)})
	}
	columns(w, rows)
	switch {
	case !list.Fleet:
		fmt.Fprintf(w, "\nThis host is a cluster of its own: there is no cluster key, and nobody to join.\n")
	case list.Settled:
		fmt.Fprintf(w, "\nCluster %s\n", list.Cluster)
	default:
		fmt.Fprintf(w, "\nCluster %s (young: it goes over to an older one that it meets)\n", list.Cluster)
	}
	for _, p := range list.Problems {
		fmt.Fprintf(w, "PROBLEM: %s\n", p)
	}
}

// changes is a number that may be unknown.
func changes(n *uint64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatUint(*n, 10)
}

func newJoin(n *node, streams genericiooptions.IOStreams) *cobra.Command {
	return &cobra.Command{
		Use: "join HOST[:PORT]...", Short: "Join the cluster of other hosts, until shoald restarts", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, hosts []string) error {
			body, err := json.Marshal(api.JoinRequest{Hosts: hosts})
			if err != nil {
				return err
			}
			b, err := n.call(cmd.Context(), http.MethodPost, "join", bytes.NewReader(body))
			if err != nil {
				return err
			}
			b.Close()
			fmt.Fprintf(streams.Out, "this host looks for %s now: see `shoal members`. For it to do so after a restart, have join in "+
				"/etc/shoal/shoal.toml name them\n", strings.Join(hosts, ", "))
			return nil
		},
	}
}

func newLeave(n *node, streams genericiooptions.IOStreams) *cobra.Command {
	return &cobra.Command{
		Use: "leave", Short: "Leave the cluster until shoald restarts, or joins; pods stay", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := n.call(cmd.Context(), http.MethodPost, "leave", nil)
			if err != nil {
				return err
			}
			b.Close()
			fmt.Fprintln(streams.Out, "this host has left; its pods run on. `shoal node forget` on another host has the cluster forget it; "+
				"`systemctl restart shoald` or `shoal join` brings it back")
			return nil
		},
	}
}

func newNode(n *node, streams genericiooptions.IOStreams) *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "Manage the cluster's nodes"}
	c.AddCommand(&cobra.Command{
		Use: "forget NAME", Short: "Have the cluster forget a host that will not come back, or was set up anew", Args: cobra.ExactArgs(1),
		Long: "Have the whole cluster forget a host: what its files declared and what it decided is no more, and its name is free.\n" +
			"It is refused for a host that is alive, unless that is another host under the old one's name.",
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := n.call(cmd.Context(), http.MethodDelete, "members/"+url.PathEscape(args[0]), nil)
			if err != nil {
				return err
			}
			b.Close()
			fmt.Fprintf(streams.Out, "node %s is forgotten\n", args[0])
			return nil
		},
	})
	return c
}
