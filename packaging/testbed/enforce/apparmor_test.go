package enforce

import (
	"testing"
)

// confined is a pod whose container says which profile it runs under, and what
// it may not do there.
func confined(name, security string) string {
	return `
apiVersion: v1
kind: Pod
metadata: {name: ` + name + `}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: rootfs:///
    command: [sh, -c, "cat /proc/self/attr/current; touch /tmp/forbidden && echo written; sleep infinity"]
    securityContext: ` + security + `
`
}

func TestAppArmorProfilesAreEnforced(t *testing.T) {
	if got := shell(t, "cat /sys/module/apparmor/parameters/enabled"); got != "Y" {
		t.Fatalf("the host's kernel has no AppArmor: %q", got)
	}
	drop(t, "aa-default", confined("aa-default", "{}"))
	await(t, "shoal-default (enforce)\nwritten", "shoal logs aa-default")
	if got := shell(t, `shoal exec aa-default -- sh -c 'cat /proc/self/attr/current; true'`); got != "shoal-default (enforce)" {
		t.Errorf("exec runs under %q", got)
	}

	drop(t, "aa-explicit", confined("aa-explicit", "{appArmorProfile: {type: RuntimeDefault}, capabilities: {add: [SYS_ADMIN]}}"))
	await(t, "shoal-default (enforce)\nwritten", "shoal logs aa-explicit")
	if got := shell(t, `if shoal exec aa-explicit -- mount -t tmpfs x /mnt 2>/dev/null; then echo mounted; else echo refused; fi`); got != "refused" {
		t.Errorf("CAP_SYS_ADMIN under the default profile may mount: %q", got)
	}

	drop(t, "aa-none", confined("aa-none", "{appArmorProfile: {type: Unconfined}, capabilities: {add: [SYS_ADMIN]}}"))
	await(t, "unconfined\nwritten", "shoal logs aa-none")
	if got := shell(t, `shoal exec aa-none -- mount -t tmpfs x /mnt 2>&1 && echo mounted`); got != "mounted" {
		t.Errorf("without a profile CAP_SYS_ADMIN may not mount: %q", got)
	}
	drop(t, "aa-privileged", confined("aa-privileged", "{privileged: true}"))
	await(t, "unconfined\nwritten", "shoal logs aa-privileged")

	local := "{appArmorProfile: {type: Localhost, localhostProfile: no-tmp}}"
	drop(t, "aa-local", confined("aa-local", local))
	await(t, `Cannot enforce AppArmor: profile "no-tmp" is not loaded: load it with apparmor_parser, it is looked for again`,
		`shoal get pod aa-local -o jsonpath='{.status.containerStatuses[0].state.waiting.message}'`)
	shell(t, `printf 'profile no-tmp flags=(attach_disconnected) {\n file,\n capability,\n network,\n deny /tmp/** w,\n}\n' | apparmor_parser -K -r`)
	running(t, "aa-local")
	await(t, "no-tmp (enforce)\ntouch: cannot touch '/tmp/forbidden': Permission denied", "shoal logs aa-local")
}
