package scope

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"
)

// maxUnitName is less than the 255 bytes of a unit's name: systemd also makes
// files with a longer name of it, such as the link
// /run/systemd/units/log-extra-fields:NAME and the directory NAME.d, and a file
// name is limited to 255 bytes too.
const maxUnitName = 230

// UnitName is the name of the pod's scope, shoal-<namespace>-<pod>-<uid8>.scope,
// with uid8 the first 8 bytes of the UID. Bytes that unit names can't have are
// escaped as systemd-escape does, except that dashes stay: they mean something
// in slices and mount units only. A name that would be too long is cut, with a
// hash of the whole instead of its end.
func UnitName(namespace, pod, uid string) string {
	name := "shoal-" + escape(namespace) + "-" + escape(pod)
	end := "-" + escape(uid[:min(8, len(uid))]) + ".scope"
	if len(name)+len(end) <= maxUnitName {
		return name + end
	}
	sum := sha256.Sum256([]byte(namespace + "/" + pod + "/" + uid))
	end = "-" + hex.EncodeToString(sum[:4]) + end
	return name[:maxUnitName-len(end)] + end
}

func escape(s string) string {
	words := strings.Split(s, "-")
	for i := range words {
		words[i] = unit.UnitNameEscape(words[i])
	}
	return strings.Join(words, "-")
}
