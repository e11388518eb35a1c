package e2e

import "testing"

func TestThePackagesOwnTestPasses(t *testing.T) {
	h := newShoal(t)
	if err := h.CopyTo(t.Context(), "../../../debian/tests/smoke", "/root/smoke"); err != nil {
		t.Fatal(err)
	}
	h.sh("chmod +x /root/smoke && /root/smoke")
}
