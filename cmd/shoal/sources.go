package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/shoal-project/shoal/daemon/api"
)

func newManifests(n *node, streams genericiooptions.IOStreams) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "manifests", Short: "Show each manifest file, its objects and what is wrong with it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := fetch[api.ManifestList](cmd.Context(), n, "manifests")
			if err != nil {
				return err
			}
			return show(streams.Out, output, list, func() { printManifests(streams.Out, list) })
		},
	}
	outputFlag(c, &output)
	return c
}

func printManifests(w io.Writer, list api.ManifestList) {
	rows := [][]string{{"FILE", "LINE", "OBJECT", "NAMESPACE", "STATE", "REASON"}}
	for _, s := range list.Sources {
		for _, o := range s.Objects {
			rows = append(rows, []string{s.Path, strconv.Itoa(o.Line), o.Kind + "/" + o.Name, o.Namespace, string(o.State), o.Reason})
		}
		if len(s.Objects) == 0 {
			rows = append(rows, []string{s.Path, "", "", "", string(s.State), s.Reason})
		}
	}
	columns(w, rows)
	for _, s := range list.Sources {
		for _, p := range s.Problems {
			fmt.Fprintf(w, "%s:%d:%d: %s%s%s\n", s.Path, p.Line, p.Column, field(p.Field), p.Message, meant(p.Suggestion))
		}
	}
}

func field(f string) string {
	if f == "" {
		return ""
	}
	return f + ": "
}

func meant(s string) string {
	if s == "" {
		return ""
	}
	return " (did you mean " + s + "?)"
}
