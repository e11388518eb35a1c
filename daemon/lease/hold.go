package lease

import "time"

// Hold is what a node's daemon knows of one claim. It is a value, and is lost
// with the daemon: the next one asks anew.
type Hold struct {
	Epoch uint64 // at which it was asked for
	Try   uint64 // the last wish; answers to others count for nothing
	Token uint64 // 0: not held
}

// Ask is the wish for a claim at an epoch. Now is by CLOCK_BOOTTIME: a daemon
// that was started anew has a larger one than the last daemon had.
func (h Hold) Ask(now time.Duration, epoch uint64) Hold {
	return Hold{Epoch: epoch, Try: max(h.Try+1, uint64(now))}
}

// Hear takes the answer to the wish with that try.
func (h Hold) Hear(node string, try uint64, out Outcome) Hold {
	if try == h.Try && out.Refused == Granted && out.Holder.Node == node && out.Holder.Epoch == h.Epoch {
		h.Token = out.Holder.Token
	}
	return h
}

// Drop is before a release is sent, and after the pod ended: what still comes
// in answer to the wish counts no more.
func (h Hold) Drop() Hold { return Hold{Epoch: h.Epoch, Try: h.Try + 1} }

// May is whether the pod may be started while the lease process is at epoch.
func (h Hold) May(epoch uint64) bool { return h.Token != 0 && epoch != 0 && h.Epoch == epoch }
