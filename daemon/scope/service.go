package scope

import (
	"context"
	"fmt"
)

// StartService starts a unit of the host that is no pod, and waits until it
// runs. Where systemd does not run the host there is none to start: an error.
func StartService(ctx context.Context, h Host, name string) error {
	s, is := h.(*onSystemd)
	if !is {
		return fmt.Errorf("start %s: systemd does not run this host", name)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.bus.job(ctx, name, "StartUnit", name, "replace"); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	return nil
}
