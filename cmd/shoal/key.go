package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/shoal-project/shoal/daemon/api"
)

func newKey(n *node, streams genericiooptions.IOStreams) *cobra.Command {
	c := &cobra.Command{Use: "key", Short: "Manage the cluster's key"}
	var finish bool
	rotate := &cobra.Command{
		Use: "rotate", Short: "Have all hosts go over to a new cluster key, with no downtime", Args: cobra.NoArgs,
		Long: "Have all hosts of the cluster that are alive go over to a new cluster key: each trusts it, then each uses it. No host loses\n" +
			"another by it, and it may be stopped at any moment: run it again, on any host, and it goes on.\n\n" +
			"The old key stays trusted for a day, or until --finish. Who has it can join until then: look at `shoal members` first,\n" +
			"for every member gets the new key. Hosts that are away are named at the end, with what to do.",
		Example: "  shoal key rotate\n  shoal key rotate --finish",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return rotateKey(cmd.Context(), n, streams.Out, finish)
		},
	}
	rotate.Flags().BoolVar(&finish, "finish", false, "drop the old key now, once all hosts use the new one")
	c.AddCommand(rotate)
	return c
}

// rotateKey prints how far the rotation is, until it is done.
func rotateKey(ctx context.Context, n *node, w io.Writer, finish bool) error {
	b, err := n.call(ctx, http.MethodPost, fmt.Sprintf("key/rotate?finish=%t", finish), nil)
	if err != nil {
		return err
	}
	defer b.Close()
	for dec := json.NewDecoder(b); ; {
		var e api.KeyEvent
		err := dec.Decode(&e)
		switch {
		case err != nil:
			return fmt.Errorf("shoald has stopped in the middle (%w): `shoal key rotate` goes on from there", err)
		case e.Error != "":
			return errors.New(e.Error)
		case e.Done:
			return nil
		}
		fmt.Fprintln(w, e.Text)
	}
}
