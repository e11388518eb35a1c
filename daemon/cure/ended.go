package cure

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
)

// exits are exit codes that a shell, the kernel or the runtime gives a meaning.
var exits = map[int32]string{
	126: "the program that the command names may not be executed",
	127: "the shell found no such program: correct the name, or take an image that has it",
	132: "it was killed by SIGILL: it was built for a newer processor",
	134: "it ended itself with SIGABRT",
	137: "it was killed by SIGKILL: for its grace was over when it was stopped, or by something on the host",
	139: "it was killed by SIGSEGV: it has a fault",
	143: "it was ended by SIGTERM",
}

// Ended is what to do about a container that ended and is started again and
// again, and how to read what it wrote.
func Ended(p *v1.Pod, container string, t *v1.ContainerStateTerminated) string {
	if t == nil {
		return ""
	}
	why := ending(find(p, container), t)
	if t.ExitCode == 0 || t.Reason == "OOMKilled" || t.Reason == "StartError" {
		return why
	}
	if why != "" {
		why = ", " + why
	}
	return fmt.Sprintf("exit code %d%s; what it wrote: shoal logs -n %s %s -c %s --previous; more: shoal why -n %s %s",
		t.ExitCode, why, p.Namespace, p.Name, container, p.Namespace, p.Name)
}

// ending is what the way in which a container ended says by itself.
func ending(a about, t *v1.ContainerStateTerminated) string {
	switch {
	case t.Reason == "OOMKilled":
		return at(a.field("resources.limits.memory"), "the kernel ended it, for it needed more than this: raise it, or have the program use less")
	case t.Reason == "StartError":
		return first(rules, a, t.Message)
	case t.ExitCode != 0:
		return exits[t.ExitCode]
	}
	field := "spec.restartPolicy"
	if a.spec != nil && a.spec.RestartPolicy != nil {
		field = a.field("restartPolicy")
	}
	return at(field, "it ended by itself with exit code 0: set OnFailure or Never if it is to, else give it a command that stays in the foreground")
}
