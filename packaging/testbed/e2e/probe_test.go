package e2e

import (
	"testing"
)

// probed has a container that is ready as long as /srv/probed/ready is there and
// well as long as /srv/probed/sick is not, and stops by its hook, which waits
// for /srv/probed/stop. What it does is in /srv/probed/log.
const probed = `apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 600
  readinessGates: [{conditionType: example.com/gate}]
  containers:
  - name: main
    image: rootfs:///
    command: [/bin/sh, -c, 'trap "echo term >> /v/log; exit 0" TERM; while :; do sleep 0.1; done']
    volumeMounts: [{name: v, mountPath: /v}]
    startupProbe: {exec: {command: [sh, -c, 'echo startup >> /v/probes; test -e /v/up']}, periodSeconds: 1, failureThreshold: 600}
    readinessProbe: {exec: {command: [test, -e, /v/ready]}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 30}
    livenessProbe: {exec: {command: [test, '!', -e, /v/sick]}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 30, terminationGracePeriodSeconds: 5}
    lifecycle:
      postStart: {exec: {command: [sh, -c, 'echo post >> /v/log; until test -e /v/go; do sleep 0.1; done']}}
      preStop: {exec: {command: [sh, -c, 'echo pre >> /v/log; until test -e /v/stop; do sleep 0.1; done']}}
  volumes: [{name: v, hostPath: {path: /srv/probed, type: DirectoryOrCreate}}]
`

// kill ends the daemon by force and waits for the next one, which systemd starts.
func (h host) kill() {
	h.Helper()
	daemon := h.sh("systemctl show -p MainPID --value shoald")
	h.sh("systemctl kill --signal=KILL --kill-whom=main shoald")
	h.until(`pid=$(systemctl show -p MainPID --value shoald); test $pid != 0 && test $pid != ` + daemon)
	h.answers()
}

// TestWhatProbesAndHooksSaidOutlivesTheDaemon kills the daemon in each state of a
// container: in its postStart hook, before it has started, while it is ready,
// while it is not, and in its preStop hook.
func TestWhatProbesAndHooksSaidOutlivesTheDaemon(t *testing.T) {
	const (
		status = `shoal get pod probed -o jsonpath='{.status.containerStatuses[0].started} {.status.containerStatuses[0].ready} {.status.containerStatuses[0].restartCount}'`
		since  = `shoal get pod probed -o jsonpath='{.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].lastTransitionTime}'`
		log    = `tr '\n' ' ' < /srv/probed/log`
	)
	h := newShoal(t)
	h.drop("probed.yaml", probed)

	h.shows("post", log)
	h.kill()
	h.shows("post post", log) // hooks are delivered at least once
	h.shows("ContainerCreating", `shoal get pod probed -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}'`)
	h.sh("touch /srv/probed/go")

	h.until("test -e /srv/probed/probes")
	h.shows("false false 0", status)
	h.kill()
	h.sh("rm /srv/probed/probes")
	h.until("test -e /srv/probed/probes")
	h.shows("false false 0", status)
	h.sh("touch /srv/probed/up /srv/probed/ready")

	h.shows("true true 0", status)
	h.sh(`shoal patch pod probed --subresource=status -p '{"status":{"conditions":[{"type":"example.com/gate","status":"True"}]}}'`)
	h.ready("probed")
	before := h.sh(since)
	h.sh("rm /srv/probed/probes")
	h.until(`now=$(date -u +%FT%TZ); test "$now" \> ` + before[len("True "):]) // a change would have another time
	for range 3 {
		h.kill()
		if after := h.sh(since); after != before {
			t.Errorf("the pod was ready %q, after the daemon's death %q", before, after)
		}
	}
	h.fails("test -e /srv/probed/probes") // what has started is not asked again

	h.sh("rm /srv/probed/ready")
	h.shows("true false 0", status)
	h.kill()
	h.shows("true false 0", status)

	h.sh("touch /srv/probed/sick /srv/probed/stop")
	h.shows("post post pre term post", log) // the hook, the signal, and the next run's hook
	h.sh("rm /srv/probed/sick /srv/probed/stop; touch /srv/probed/ready")
	h.shows("true true 1", status)

	h.sh("rm /etc/shoal/manifests/probed.yaml")
	h.shows("post post pre term post pre", log)
	h.shows("False", `shoal get pod probed -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}'`)
	h.kill()
	h.shows("post post pre term post pre pre", log)
	h.sh("touch /srv/probed/stop")
	h.noPods()
	h.shows("post post pre term post pre pre term", log)
}
