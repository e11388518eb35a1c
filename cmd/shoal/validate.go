package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/shoal-project/shoal/manifests"
)

// Exit codes of validate, fit for Ansible's "validate: shoal validate %s".
const (
	exitInvalid = 1
	exitUsage   = 2 // or a file that cannot be read
)

// report is validate's answer, and its -o json.
type report struct {
	Valid    bool                `json:"valid"`
	Files    int                 `json:"files"`
	Objects  int                 `json:"objects"`
	Problems []manifests.Problem `json:"problems"`
	Ignored  []ignored           `json:"ignored,omitempty"`
}

type ignored struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

func newValidate(streams genericiooptions.IOStreams) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "validate FILE|DIR|-...",
		Short: "Check manifests as the daemon would, without it",
		Long: `Check manifests as the daemon would, without it. Each problem is a line file:line:column: field: what is wrong.

Exit codes: 0 all valid, 1 something is not, 2 wrong usage or a file that cannot be read.`,
		Example: `  shoal validate web.yaml
  helm template ./chart | shoal validate -
  # In Ansible: copy: dest=/etc/shoal/manifests/web.yaml validate="shoal validate %s"`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exitError{exitUsage, "validate needs a file, a directory or -"}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if output != "" && output != "json" {
				return exitError{exitUsage, fmt.Sprintf("output %q: want json", output)}
			}
			return validate(args, output, streams)
		},
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exitError{exitUsage, err.Error()} })
	c.Flags().StringVarP(&output, "output", "o", "", "json, or nothing for text")
	return c
}

func validate(args []string, output string, streams genericiooptions.IOStreams) error {
	r := report{Problems: []manifests.Problem{}}
	for _, arg := range args {
		if err := r.add(arg, streams.In); err != nil {
			return exitError{exitUsage, err.Error()}
		}
	}
	r.Valid = len(r.Problems) == 0
	if output == "json" {
		if err := json.NewEncoder(streams.Out).Encode(r); err != nil {
			return exitError{exitUsage, err.Error()}
		}
	} else {
		r.print(streams)
	}
	if !r.Valid {
		return exitError{code: exitInvalid}
	}
	return nil
}

func (r *report) print(streams genericiooptions.IOStreams) {
	for _, p := range r.Problems {
		fmt.Fprintln(streams.ErrOut, p.Error())
	}
	for _, i := range r.Ignored {
		fmt.Fprintf(streams.ErrOut, "%s: ignored: %s\n", i.Path, i.Reason)
	}
	if r.Valid {
		fmt.Fprintf(streams.Out, "%s in %s: valid\n", count(r.Objects, "object"), count(r.Files, "file"))
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// add checks one argument.
func (r *report) add(arg string, in io.Reader) error {
	if arg == "-" {
		return r.read("<stdin>", in)
	}
	st, err := os.Stat(arg)
	if err != nil {
		return err
	}
	if st.IsDir() {
		return r.dir(arg)
	}
	f, err := os.Open(arg)
	if err != nil {
		return err
	}
	defer f.Close()
	return r.read(arg, f)
}

// read checks one file, whatever its name is: configuration management
// validates temporary ones.
func (r *report) read(name string, in io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(in, manifests.MaxFileSize+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	objects, problems := manifests.Decode(name, b)
	r.Files++
	r.Objects += len(objects)
	r.Problems = append(r.Problems, problems...)
	return nil
}

// dir checks a directory as if it were one of the daemon's.
func (r *report) dir(dir string) error {
	if _, err := os.ReadDir(dir); err != nil {
		return err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	given := func(path string) string { return filepath.Join(dir, strings.TrimPrefix(path, abs)) }
	set := manifests.NewReader([]manifests.Source{{Dir: abs, Precedence: 1}}).Scan()
	r.Problems = append(r.Problems, set.Problems...)
	for _, f := range set.Files {
		if f.Ignored != "" {
			r.Ignored = append(r.Ignored, ignored{given(f.Path), f.Ignored})
			continue
		}
		r.Files++
		r.Objects += len(f.Objects)
		for _, p := range f.Problems {
			p.Pos.File = given(p.Pos.File)
			r.Problems = append(r.Problems, p)
		}
	}
	return nil
}
