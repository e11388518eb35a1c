package scope

// IsSystemd says whether pods are systemd scopes here.
func IsSystemd(h Host) bool { _, ok := h.(*onSystemd); return ok }

// IsNone says whether there are no cgroups at all here.
func IsNone(h Host) bool { _, ok := h.(none); return ok }
