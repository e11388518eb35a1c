package e2e

import (
	"strings"
	"testing"
)

func TestStaticPodsAreThisHostsAndOnlyTheirFileChangesThem(t *testing.T) {
	h := newShoal(t)
	file := func(text string) {
		t.Helper()
		if err := h.WriteFile(h.Context(), "/etc/shoal/static-pods/web.yaml", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	file(named("web"))
	h.ready("web-n1")
	before := h.life("web-n1")
	if got := h.get("pod/web-n1", `.metadata.annotations.kubernetes\.io/config\.source`); got != "file" {
		t.Errorf("config.source is %q, want file", got)
	}
	if got := h.sh("shoal manifests"); !strings.Contains(got, "/etc/shoal/static-pods/web.yaml") {
		t.Errorf("shoal manifests does not list it:\n%s", got)
	}
	for _, change := range []string{"shoal delete pod web-n1", "shoal label pod web-n1 a=b", "shoal delete pod --all"} {
		if got, want := h.fails(change), "it is a static pod of node n1: edit or remove /etc/shoal/static-pods/web.yaml there"; !strings.Contains(got, want) {
			t.Errorf("%s: want %q in %q", change, want, got)
		}
	}
	h.sh("systemctl kill --signal=KILL --kill-whom=main shoald")
	h.answers()
	h.ready("web-n1")
	if after := h.life("web-n1"); after != before {
		t.Errorf("after all that the pod was %s, is %s", before, after)
	}
	uid := h.get("pod/web-n1", ".metadata.uid")
	file(strings.Replace(named("web"), "tier: one", "tier: two", 1))
	h.shows("two", "shoal get pod web-n1 -o jsonpath='{.metadata.labels.tier}'")
	h.ready("web-n1")
	if now := h.get("pod/web-n1", ".metadata.uid"); now == uid {
		t.Error("an edit did not replace the pod")
	}
	file("not a pod: [")
	h.until("shoal get events | grep -q static-pods/web.yaml")
	h.ready("web-n1")
	h.sh("rm /etc/shoal/static-pods/web.yaml")
	h.noPods()
}
