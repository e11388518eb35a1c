package e2e

import (
	"errors"
	"strings"
	"testing"
)

// What a daemon publishes or saves while nothing happens wakes every watcher and keeps it from giving memory back.
func TestADaemonAtRestPublishesAndSavesNothing(t *testing.T) {
	h := newShoal(t)
	h.drop("plain.yaml", named("plain"))
	h.drop("probed.yaml", strings.Replace(named("probed"), "  - name: ", `  - livenessProbe: {exec: {command: ["true"]}, periodSeconds: 3, timeoutSeconds: 60}
    readinessProbe: {exec: {command: ["true"]}, periodSeconds: 2, timeoutSeconds: 60}
    name: `, 1))
	h.ready("plain")
	h.ready("probed")
	// published is what the API's watchers see from now on for some seconds.
	published := func(seconds string) string {
		return h.sh(`version=$(shoal get --raw /api/v1/pods | grep -o '"resourceVersion":"[0-9]*"' | head -1 | tr -dc 0-9)
all=""
for kind in pods nodes events serviceaccounts namespaces configmaps; do
	shoal get --raw "/api/v1/$kind?watch=1&timeoutSeconds=$1&resourceVersion=$version" &
	all="$all $!"
done
for one in $all; do wait $one; done`, seconds)
	}
	// An exec probe's process has its number in memory each time: crun writes it.
	saved := func() string {
		return h.sh(`find /var/lib/shoal /run/shoal -xdev -type f ! -path '*/exec-*/pid' -printf '%p %T@ %s\n' | sort`)
	}
	h.eventually("the start's work ends", func() error {
		if seen := published("10"); seen != "" {
			return errors.New(seen)
		}
		return nil
	})
	before := saved()
	// Two of the daemon's looks at everything, which are 30 s apart, are in it.
	if seen := published("65"); seen != "" {
		t.Errorf("published at rest:\n%s", seen)
	}
	if after := saved(); after != before {
		t.Errorf("saved at rest: before\n%s\nafter\n%s", before, after)
	}
	h.sh("shoal annotate pod plain seen=yes")
	if after := saved(); after == before {
		t.Error("this test does not see what is saved")
	}
}
