package main

import (
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/debug"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// newDebug is kubectl's debug that also takes the host's root, rootfs:///, as
// an image. kubectl lets only registries' references pass; the API checks both.
func newDebug(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	cmd := debug.NewCmdDebug(f, streams)
	o := debug.NewDebugOptions(streams)
	cmd.ResetFlags()
	o.AddFlags(cmd)
	cmd.Run = func(cmd *cobra.Command, args []string) {
		cmdutil.CheckErr(o.Complete(f, cmd, args))
		image := o.Image
		if strings.HasPrefix(image, "rootfs:") {
			o.Image = "rootfs"
		}
		cmdutil.CheckErr(o.Validate())
		o.Image = image
		cmdutil.CheckErr(o.Run(f, cmd))
	}
	return cmd
}
