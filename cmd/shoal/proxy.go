package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

func newProxy(n *node, streams genericiooptions.IOStreams) *cobra.Command {
	port := uint16(8001)
	c := &cobra.Command{
		Use: "proxy", Short: "Serve the node's API on 127.0.0.1, for kubectl and others", Args: cobra.NoArgs,
		Long: `Serve the node's API on 127.0.0.1, for kubectl and other clients of Kubernetes' API, until interrupted.

Only processes of the user who runs the proxy, and of root, are let through.`,
		Example: `  shoal proxy &
  kubectl -s http://127.0.0.1:8001 get pods`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
			if err != nil {
				return err
			}
			fmt.Fprintf(streams.Out, "Starting to serve on %s\n", l.Addr())
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return serveProxy(ctx, n, l)
		},
	}
	c.Flags().Uint16VarP(&port, "port", "p", port, "TCP port; 0 takes a free one")
	return c
}

type ownerKey struct{}

// serveProxy hands requests to the socket, upgrades (exec) included.
func serveProxy(ctx context.Context, n *node, l net.Listener) error {
	target, err := url.Parse(host)
	if err != nil {
		return err
	}
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     &http.Transport{DialContext: n.dial},
		FlushInterval: -1, // watches and logs are read as they come
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if why := n.reachable(); why != nil {
				err = why
			}
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	srv := &http.Server{
		Handler:           guard(forward),
		ReadHeaderTimeout: 10 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, ownerKey{}, allowed(c))
		},
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// guard keeps out other users of this host, and web pages in a browser that
// was told a foreign name for 127.0.0.1.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Host
		if h, _, err := net.SplitHostPort(name); err == nil {
			name = h
		}
		if ok, _ := r.Context().Value(ownerKey{}).(bool); !ok {
			http.Error(w, "this proxy serves only the user who runs it", http.StatusForbidden)
			return
		}
		if name != "127.0.0.1" && name != "localhost" || r.Header.Get("Origin") != "" {
			http.Error(w, "requests from web pages are refused", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
