package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/spf13/cobra"
	apiversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// version is set at link time: -X main.version=1.2.3.
var version = "dev"

func newVersion(n *node, streams genericiooptions.IOStreams) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "version", Short: "Show the versions of shoal and of shoald", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versions{Client: version, Go: goVersion()}
			if n.reachable() == nil {
				r, err := n.client().Get(host + "/version")
				if err != nil {
					return fmt.Errorf("ask shoald: %w", err)
				}
				defer r.Body.Close()
				if r.StatusCode == http.StatusOK {
					v.Server = new(apiversion.Info)
					if err := json.NewDecoder(r.Body).Decode(v.Server); err != nil {
						return fmt.Errorf("answer of shoald: %w", err)
					}
				}
			}
			return show(streams.Out, output, v, func() {
				fmt.Fprintf(streams.Out, "shoal: %s (%s)\n", v.Client, v.Go)
				if v.Server != nil {
					fmt.Fprintf(streams.Out, "shoald: %s\n", v.Server.GitVersion)
				} else {
					fmt.Fprintln(streams.Out, "shoald: not reached")
				}
			})
		},
	}
	outputFlag(c, &output)
	return c
}

type versions struct {
	Client string           `json:"client"`
	Go     string           `json:"go"`
	Server *apiversion.Info `json:"server,omitempty"`
}

func goVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.GoVersion
	}
	return "unknown"
}
