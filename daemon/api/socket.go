package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is where a node's API is.
const Socket = "/run/shoal/shoal.sock"

// Group may connect to the socket besides root, where it exists.
const Group = "shoal"

// Listen makes the socket at path: mode 0660, of root and the group shoal, or
// 0600 where that group does not exist. A socket that a dead daemon left there
// is replaced, without a moment in which there is none.
func Listen(path string) (net.Listener, error) {
	fresh := path + "." + strconv.Itoa(os.Getpid())
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// Until Chmod, a umask of 022 leaves write permission, which connecting
	// needs, to root alone; shoald.service has a stricter one.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err := open(fresh); err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		l.Close()
		os.Remove(fresh)
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// open lets those connect who may.
func open(socket string) error {
	group, err := user.LookupGroup(Group)
	if err != nil {
		return os.Chmod(socket, 0o600)
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		return fmt.Errorf("group %s: %w", Group, err)
	}
	if err := os.Chown(socket, 0, gid); err != nil {
		return err
	}
	return os.Chmod(socket, 0o660)
}

type peerKey struct{}

// withPeer notes who is at the other end of a unix socket.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil || cred == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred)
}

// access logs a request: reads at debug, writes at info with who made them.
// Only the path is logged: a query holds what was typed into exec.
func (s *Server) access(r *http.Request, code int, took time.Duration) {
	level := slog.LevelDebug
	if r.Method != http.MethodGet && r.Method != http.MethodHead || isExec(r) {
		level = slog.LevelInfo
	}
	if !s.Log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", code), slog.Duration("duration", took),
	}
	if cred, ok := r.Context().Value(peerKey{}).(*unix.Ucred); ok {
		attrs = append(attrs, slog.Int("peer_pid", int(cred.Pid)), slog.Int("peer_uid", int(cred.Uid)))
	}
	if node := callingNode(r.Context()); node != "" {
		attrs = append(attrs, slog.String("node", node))
	}
	s.Log.LogAttrs(r.Context(), level, "api_request", attrs...)
}
