package image

import (
	"context"
	"encoding/pem"
	"net"
	"net/http/httptest"

	"github.com/google/go-containerregistry/pkg/name"
)

func parseRemote(ref string) (name.Reference, error) { return name.ParseReference(ref) }

func pemOf(server *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

// dialInstead reaches addr whatever is asked for.
func dialInstead(addr string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}
