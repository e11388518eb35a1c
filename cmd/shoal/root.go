package main

import (
	"flag"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/kubectl/pkg/cmd/annotate"
	"k8s.io/kubectl/pkg/cmd/apiresources"
	"k8s.io/kubectl/pkg/cmd/apply"
	"k8s.io/kubectl/pkg/cmd/attach"
	"k8s.io/kubectl/pkg/cmd/cp"
	"k8s.io/kubectl/pkg/cmd/create"
	"k8s.io/kubectl/pkg/cmd/delete"
	"k8s.io/kubectl/pkg/cmd/describe"
	"k8s.io/kubectl/pkg/cmd/diff"
	"k8s.io/kubectl/pkg/cmd/drain"
	"k8s.io/kubectl/pkg/cmd/edit"
	"k8s.io/kubectl/pkg/cmd/events"
	"k8s.io/kubectl/pkg/cmd/exec"
	"k8s.io/kubectl/pkg/cmd/explain"
	"k8s.io/kubectl/pkg/cmd/get"
	"k8s.io/kubectl/pkg/cmd/label"
	"k8s.io/kubectl/pkg/cmd/logs"
	"k8s.io/kubectl/pkg/cmd/patch"
	"k8s.io/kubectl/pkg/cmd/portforward"
	"k8s.io/kubectl/pkg/cmd/replace"
	"k8s.io/kubectl/pkg/cmd/rollout"
	"k8s.io/kubectl/pkg/cmd/run"
	"k8s.io/kubectl/pkg/cmd/scale"
	"k8s.io/kubectl/pkg/cmd/set"
	"k8s.io/kubectl/pkg/cmd/taint"
	"k8s.io/kubectl/pkg/cmd/top"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/cmd/wait"
	utilcomp "k8s.io/kubectl/pkg/util/completion"

	"github.com/shoal-project/shoal/daemon/api"
)

const about = `shoal looks at and changes what runs on this host.

Objects are Kubernetes': the commands are kubectl's own, over the socket of shoald. Files in
/etc/shoal/manifests declare objects too; 'shoal manifests' shows which, and 'shoal validate' checks them.`

// Groups of the help text.
const (
	groupShoal = "shoal"
	groupLook  = "look"
	groupWrite = "write"
)

func newRoot(streams genericiooptions.IOStreams) *cobra.Command {
	node := &node{socket: api.Socket, namespace: "default"}
	if s := os.Getenv("SHOAL_SOCKET"); s != "" {
		node.socket = s
	}
	root := &cobra.Command{
		Use: "shoal", Short: "Kubernetes objects on plain hosts", Long: about,
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			rest.SetDefaultWarningHandler(rest.NewWarningWriter(streams.ErrOut, rest.WarningWriterOptions{Deduplicate: true}))
			if offline(cmd) {
				return nil
			}
			return node.reachable()
		},
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	root.PersistentFlags().StringVar(&node.socket, "socket", node.socket, "shoald's socket (or set SHOAL_SOCKET)")
	root.PersistentFlags().StringVarP(&node.namespace, "namespace", "n", node.namespace, "the namespace of what is named")
	logFlags(root)
	root.AddGroup(
		&cobra.Group{ID: groupShoal, Title: "This host:"},
		&cobra.Group{ID: groupLook, Title: "Look at objects (as kubectl):"},
		&cobra.Group{ID: groupWrite, Title: "Change objects (as kubectl):"},
	)
	add(root, groupShoal, newMembers(node, streams), newJoin(node, streams), newLeave(node, streams), newNode(node, streams), newKeygen(streams), newKey(node, streams),
		newLease(streams), newWitness(streams))
	add(root, groupShoal, newStatus(node, streams), newWhy(node, streams), newPlan(node, streams), newDNS(node, streams), newManifests(node, streams), newValidate(streams),
		newImage(node, streams), newProxy(node, streams), newVersion(node, streams))
	addKubectl(root, node, streams)
	return root
}

// logFlags adds -v, which shows requests from 6 on.
func logFlags(root *cobra.Command) {
	all := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(all)
	root.PersistentFlags().AddGoFlag(all.Lookup("v"))
}

func add(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		root.AddCommand(c)
	}
}

func addKubectl(root *cobra.Command, n *node, streams genericiooptions.IOStreams) {
	// Without MatchVersionFlags exec's REST configuration has no serializer.
	f := cmdutil.NewFactory(cmdutil.NewMatchVersionFlags(n))
	look := []*cobra.Command{
		get.NewCmdGet("shoal", f, streams), describe.NewCmdDescribe("shoal", f, streams), logs.NewCmdLogs(f, streams),
		exec.NewCmdExec(f, streams), attach.NewCmdAttach(f, streams), portforward.NewCmdPortForward(f, streams),
		newDebug(f, streams), events.NewCmdEvents(f, streams), wait.NewCmdWait(f, streams), top.NewCmdTop(f, streams),
		explain.NewCmdExplain("shoal", f, streams), diff.NewCmdDiff(f, streams), cp.NewCmdCp(f, streams),
		apiresources.NewCmdAPIResources(f, streams), apiresources.NewCmdAPIVersions(f, streams),
	}
	write := []*cobra.Command{
		apply.NewCmdApply("shoal", f, streams), create.NewCmdCreate(f, streams), delete.NewCmdDelete(f, streams),
		edit.NewCmdEdit(f, streams), label.NewCmdLabel(f, streams), annotate.NewCmdAnnotate("shoal", f, streams),
		patch.NewCmdPatch(f, streams), replace.NewCmdReplace(f, streams), run.NewCmdRun(f, streams),
		set.NewCmdSet(f, streams), scale.NewCmdScale(f, streams), rollout.NewCmdRollout("shoal", f, streams),
		drain.NewCmdCordon(f, streams), drain.NewCmdUncordon(f, streams), drain.NewCmdDrain(f, streams), taint.NewCmdTaint(f, streams),
	}
	for _, c := range append(look, write...) {
		asShoal(c)
	}
	add(root, groupLook, look...)
	add(root, groupWrite, write...)
	utilcomp.SetFactoryForCompletion(f)
}

// asShoal makes the help of kubectl's commands speak of shoal.
func asShoal(c *cobra.Command) {
	swap := func(s string) string { return strings.ReplaceAll(s, "kubectl ", "shoal ") }
	c.Example, c.Long, c.Short = swap(c.Example), swap(c.Long), swap(c.Short)
	for _, sub := range c.Commands() {
		asShoal(sub)
	}
}

// offline says whether a command does without the daemon.
func offline(c *cobra.Command) bool {
	for p := c; p != nil; p = p.Parent() {
		switch p.Name() {
		case "validate", "keygen", "lease", "witness", "help", "completion", "version", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
			return true
		}
	}
	if f := c.Flags().Lookup("dry-run"); f != nil && f.Value.String() == "client" {
		return true
	}
	f := c.Flags().Lookup("local")
	return f != nil && f.Value.String() == "true" || !c.Runnable()
}
