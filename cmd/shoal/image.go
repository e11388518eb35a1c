package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/shoal-project/shoal/daemon/api"
)

func newImage(n *node, streams genericiooptions.IOStreams) *cobra.Command {
	c := &cobra.Command{
		Use: "image", Short: "List, pull, load and remove images of this host",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q for %q: see '%s --help'", args[0], cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var output string
	ls := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List images", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := fetch[[]api.Image](cmd.Context(), n, "images")
			if err != nil {
				return err
			}
			return show(streams.Out, output, list, func() { printImages(streams.Out, list, time.Now()) })
		},
	}
	outputFlag(ls, &output)
	c.AddCommand(ls,
		&cobra.Command{
			Use: "pull IMAGE", Short: "Fetch an image from its registry", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				bars := newBars(streams.ErrOut)
				images, err := n.transfer(cmd.Context(), "images/pull?ref="+url.QueryEscape(args[0]), nil, bars.show)
				return arrived(streams.Out, images, err)
			},
		},
		&cobra.Command{
			Use: "load FILE|-", Short: "Read images from an archive (docker save, OCI)", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				in, name, size := streams.In, "stdin", int64(0)
				if args[0] != "-" {
					f, err := os.Open(args[0])
					if err != nil {
						return err
					}
					defer f.Close()
					if info, err := f.Stat(); err == nil {
						size = info.Size()
					}
					in, name = f, filepath.Base(args[0])
				}
				bars := newBars(streams.ErrOut)
				images, err := n.transfer(cmd.Context(), "images/load", watched(in, name, size, bars.show), bars.show)
				return arrived(streams.Out, images, err)
			},
		},
		&cobra.Command{
			Use: "rm IMAGE...", Short: "Remove images that no pod uses", Args: cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				for _, ref := range args {
					b, err := n.call(cmd.Context(), http.MethodDelete, "images?ref="+url.QueryEscape(ref), nil)
					if err != nil {
						return err
					}
					b.Close()
					fmt.Fprintf(streams.Out, "%s removed\n", ref)
				}
				return nil
			},
		},
	)
	return c
}

func arrived(w io.Writer, images []api.Image, err error) error {
	if err != nil {
		return err
	}
	for _, i := range images {
		fmt.Fprintf(w, "%s %s\n", shortID(i.ID), strings.Join(i.Names, " "))
	}
	return nil
}

func printImages(w io.Writer, list []api.Image, now time.Time) {
	rows := [][]string{{"IMAGE", "ID", "SIZE", "AGE", "IN USE"}}
	for _, i := range list {
		age, use := "<unknown>", "no"
		if !i.Created.IsZero() {
			age = duration.HumanDuration(now.Sub(i.Created))
		}
		if i.InUse {
			use = "yes"
		}
		names := i.Names
		if len(names) == 0 {
			names = []string{"<none>"}
		}
		for _, name := range names {
			rows = append(rows, []string{name, shortID(i.ID), bytesText(i.Size), age, use})
		}
	}
	columns(w, rows)
}

func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(len(id), 12)]
}

// bytesText is a size in units of 1,000, as docker shows it.
func bytesText(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%dB", n)
	}
	v, i := float64(n)/1000, 0
	for v >= 999.95 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.1f%cB", v, units[i])
}
