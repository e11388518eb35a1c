// Command shoal talks to a node's API as kubectl does: its commands are
// kubectl's own, pointed at the socket of shoald on this host. What only Shoal
// has is beside them: status, manifests, validate, image, proxy.
package main

import (
	"errors"
	"fmt"
	"os"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

func main() {
	os.Exit(execute(os.Args[1:], genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}))
}

// exitError ends the program with a code other than 1. Its text, if it has
// any, is printed.
type exitError struct {
	code int
	text string
}

func (e exitError) Error() string { return e.text }

// execute is the program but for the process around it. kubectl's own commands end
// the process themselves where they fail.
func execute(args []string, streams genericiooptions.IOStreams) int {
	root := newRoot(streams)
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	code := 1
	var exit exitError
	if errors.As(err, &exit) {
		code = exit.code
	}
	if err.Error() != "" {
		fmt.Fprintln(streams.ErrOut, "error:", err)
	}
	return code
}
