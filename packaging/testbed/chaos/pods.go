package chaos

import (
	"fmt"
	"strings"
)

// kind is one way for a pod to behave. Each pod's file is written from its kind.
type kind struct {
	name    string
	fragile bool // is never touched: it shows that restarts are invisible
	want    Pod  // but for namespace and name
	spec    string
	extra   string // other documents of the file
}

// Scripts of containers. PID 1 of a namespace has no default actions for signals: TERM has to be trapped.
const (
	wait  = `trap 'exit 0' TERM; sleep infinity & wait`
	count = `trap 'exit 0' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done`
)

func container(name, script, more string) string {
	return fmt.Sprintf("  - {name: %s, image: \"rootfs:///\", command: [sh, -c, %q], env: [{name: EDIT, value: \"$EDIT\"}]%s}\n", name, script, more)
}

func containers(list ...string) string { return "  containers:\n" + strings.Join(list, "") }

func running(names ...string) Pod { return Pod{Running: names} }

// kinds are 20, of which 4 are never touched.
func kinds() []kind {
	const emptyDir = "  volumes: [{name: data, emptyDir: {}}]\n"
	const data = ", volumeMounts: [{name: data, mountPath: /mnt}]"
	over := Pod{Over: true}
	port := func(p int) Pod {
		return Pod{Running: []string{"main"}, HostPorts: []string{fmt.Sprintf("tcp %d", p)}}
	}
	return []kind{
		{name: "count-a", fragile: true, want: running("main"), spec: containers(container("main", count, ""))},
		{name: "count-b", fragile: true, want: running("one", "two"),
			spec: containers(container("one", count, ""), container("two", count, ""))},
		{name: "count-c", fragile: true, want: running("main"), spec: emptyDir + containers(container("main", "date >> /mnt/starts; "+count, data))},
		{name: "still", fragile: true, want: running("main"), spec: containers(container("main", wait, ""))},

		{name: "long", want: running("main"), spec: containers(container("main", wait, ""))},
		{name: "long-counting", want: running("main"), spec: containers(container("main", count, ""))},
		{name: "guaranteed", want: running("main"), spec: containers(container("main", wait,
			", resources: {requests: {cpu: 50m, memory: 32Mi}, limits: {cpu: 50m, memory: 32Mi}}"))},
		{name: "three", want: running("one", "two", "three"),
			spec: containers(container("one", wait, ""), container("two", wait, ""), container("three", count, ""))},
		{name: "crashing", want: Pod{Maybe: []string{"main"}}, spec: containers(container("main", "echo up; sleep 0.3; exit 3", ""))},
		{name: "half-crashing", want: Pod{Running: []string{"well"}, Maybe: []string{"ill"}},
			spec: containers(container("well", wait, ""), container("ill", "exit 1", ""))},
		{name: "done", want: over, spec: "  restartPolicy: Never\n" + containers(container("main", "echo done", ""))},
		{name: "failed", want: over, spec: "  restartPolicy: Never\n" + containers(container("main", "sleep 0.5; exit 7", ""))},
		{name: "at-last", want: over, spec: emptyDir + "  restartPolicy: OnFailure\n" +
			containers(container("main", "test -e /mnt/tried || { touch /mnt/tried; exit 1; }", data))},
		{name: "prepared", want: running("side", "main"), spec: "  initContainers:\n" + container("first", "echo 1 > /mnt/first", data) +
			container("side", wait, data+", restartPolicy: Always") + container("second", "test -e /mnt/first", data) +
			containers(container("main", "test -e /mnt/first || exit 1; "+wait, data)) + emptyDir},
		{name: "volumes", want: running("main"),
			spec: containers(container("main", "cat /conf/key /secret/key /memory/. >/dev/null 2>&1; "+wait,
				", volumeMounts: [{name: conf, mountPath: /conf}, {name: secret, mountPath: /secret}, {name: memory, mountPath: /memory},"+
					" {name: conf, mountPath: /etc/one.conf, subPath: key}]")) +
				"  volumes: [{name: conf, configMap: {name: volumes}}, {name: secret, secret: {secretName: volumes}}, {name: memory, emptyDir: {medium: Memory}}]\n",
			extra: "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: volumes}, data: {key: value}}\n" +
				"---\n{apiVersion: v1, kind: Secret, metadata: {name: volumes}, stringData: {key: value}}\n"},
		{name: "port-a", want: port(30080), spec: containers(container("main", wait, ", ports: [{containerPort: 80, hostPort: 30080}]"))},
		{name: "port-b", want: port(30081), spec: containers(container("main", wait, ", ports: [{containerPort: 80, hostPort: 30081}]"))},
		{name: "deaf", want: running("main"), spec: containers(container("main", "trap '' TERM; while :; do sleep 1; done", ""))},
		{name: "on-host", want: Pod{Running: []string{"main"}, HostNetwork: true}, spec: "  hostNetwork: true\n" + containers(container("main", wait, ""))},
		{name: "shared", want: running("shm", "two"), spec: "  shareProcessNamespace: true\n" + containers(container("shm", wait, ""), container("two", wait, ""))},
	}
}

// file is a pod's file as it is now.
type file struct {
	kind
	path    string // "": there is none
	edit    int    // changes what makes the pod be replaced
	note    int    // changes what is followed in place
	touched int    // how often this pod's processes were killed
}

// yaml is the file's text.
func (f *file) yaml() string {
	text := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, annotations: {note: \"%d\"}}\nspec:\n  terminationGracePeriodSeconds: 1\n%s%s",
		f.name, f.note, f.spec, f.extra)
	return strings.ReplaceAll(text, "$EDIT", fmt.Sprint(f.edit))
}

// pod is what must be there while the file is.
func (f *file) pod() Pod {
	p := f.want
	p.Namespace, p.Name, p.Env = "default", f.name, fmt.Sprintf("EDIT=%d", f.edit)
	return p
}
