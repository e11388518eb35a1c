package peer

import (
	"bufio"
	"context"
	"fmt"
	"net/http"

	"github.com/shoal-project/shoal/daemon/cluster"
)

// headerRun names the process that was asked, to one that shows this node's own
// name and key. Only a process that has others of the cluster in sight says it:
// of two hosts that are both by themselves neither has the name.
const headerRun = "Shoal-Run"

// HasTwin asks who answers at an address that the cluster has for this node's name,
// and says whether it is another host with this node's own key: the handshake
// proves that, and that it is not this process itself. It is false for a host
// that is by itself as well, and for one with another key, which no copy of this
// one's disk has.
func (e *Endpoint) HasTwin(ctx context.Context, address string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	c, err := e.dialWith(ctx, "tcp", address, e.tls.Load().self)
	if err != nil {
		return false, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/", nil)
	if err != nil {
		return false, err
	}
	if err := r.Write(c); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 4<<10), r)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	run := resp.Header.Get(headerRun)
	return run != "" && run != e.run, nil
}

// isSelf admits whoever shows this node's name and key.
func (e *Endpoint) isSelf(who cluster.Identity) error {
	if err := e.admit(who); err != errSelf {
		return fmt.Errorf("node %s answers there, not one with this node's name and key", who.Node)
	}
	return nil
}
