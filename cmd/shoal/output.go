package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"
)

func outputFlag(c *cobra.Command, output *string) {
	c.Flags().StringVarP(output, "output", "o", "", "json or yaml, or nothing for text")
}

// show prints v as asked for.
func show(w io.Writer, output string, v any, text func()) error {
	switch output {
	case "":
		text()
		return nil
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "yaml":
		b, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}
	return exitError{exitUsage, fmt.Sprintf("output %q: want json or yaml", output)}
}

// columns prints rows as kubectl does.
func columns(w io.Writer, rows [][]string) {
	tabs := printers.GetNewTabWriter(w)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(tabs, "\t")
			}
			fmt.Fprint(tabs, cell)
		}
		fmt.Fprintln(tabs)
	}
	tabs.Flush()
}
