// Package logind asks systemd-logind for time before the host shuts down
// (org.freedesktop.login1(5), https://systemd.io/INHIBITOR_LOCKS).
package logind

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const (
	service = "org.freedesktop.login1"
	object  = dbus.ObjectPath("/org/freedesktop/login1")
	manager = service + ".Manager"
	bus     = "org.freedesktop.DBus"
)

// dropIn is where the longest delay that logind grants is raised, as the kubelet
// does it in 99-kubelet.conf; but /etc is not ours to write to.
const dropIn = "run/systemd/logind.conf.d/99-shoal.conf"

// ErrBegun says that a shutdown has begun: it is too late to delay it.
var ErrBegun = errors.New("a shutdown has begun already")

// settleTime is how long logind may take to read its configuration again.
const settleTime = 3 * time.Second

// Connection is one to logind. It is of no use any more once Shutdowns is closed.
type Connection struct {
	conn *dbus.Conn
	lock int // the inhibitor; -1: none is held

	// Shutdowns gets true when a shutdown begins, and false when it was called off.
	Shutdowns chan bool
}

// Connect connects to logind over the system bus. If a shutdown has begun
// already, that comes first from Shutdowns.
func Connect(ctx context.Context) (*Connection, error) {
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return nil, fmt.Errorf("connect to the system bus: %w", err)
	}
	c := &Connection{conn: conn, lock: -1, Shutdowns: make(chan bool, 1)}
	if err := c.watch(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// watch begins to listen before it looks, so that nothing is missed in between.
func (c *Connection) watch(ctx context.Context) error {
	signals := make(chan *dbus.Signal, 8)
	c.conn.Signal(signals)
	match := []dbus.MatchOption{dbus.WithMatchSender(service), dbus.WithMatchObjectPath(object), dbus.WithMatchInterface(manager), dbus.WithMatchMember("PrepareForShutdown")}
	if err := c.conn.AddMatchSignalContext(ctx, match...); err != nil {
		return fmt.Errorf("watch for shutdowns: %w", err)
	}
	owners := []dbus.MatchOption{dbus.WithMatchSender(bus), dbus.WithMatchInterface(bus), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, service)}
	if err := c.conn.AddMatchSignalContext(ctx, owners...); err != nil {
		return fmt.Errorf("watch for restarts of logind: %w", err)
	}
	begun, err := c.begun()
	if err != nil {
		return fmt.Errorf("ask logind: %w", err)
	}
	if begun {
		c.Shutdowns <- true
	}
	go func() {
		defer close(c.Shutdowns)
		for s := range signals { // closed with the connection
			if next, known := c.next(s, begun); known {
				begun = next
				c.Shutdowns <- begun
			}
		}
	}()
	return nil
}

// next is what a signal says of a shutdown, if it says anything. A logind that
// was restarted has forgotten the shutdown that it delayed, and tells nobody.
func (c *Connection) next(s *dbus.Signal, begun bool) (next, known bool) {
	switch {
	case s.Name == manager+".PrepareForShutdown" && len(s.Body) == 1:
		next, known = s.Body[0].(bool)
	case s.Name == bus+".NameOwnerChanged" && len(s.Body) == 3 && s.Body[0] == service && s.Body[2] != "":
		now, err := c.begun()
		next, known = now, err == nil && now != begun
	}
	return next, known
}

// begun says whether logind prepares for a shutdown now.
func (c *Connection) begun() (bool, error) {
	v, err := c.conn.Object(service, object).GetProperty(manager + ".PreparingForShutdown")
	if err != nil {
		return false, err
	}
	begun, ok := v.Value().(bool)
	if !ok {
		return false, fmt.Errorf("PreparingForShutdown is %v", v)
	}
	return begun, nil
}

// Close gives the connection up, and lets the host shut down.
func (c *Connection) Close() {
	c.Release()
	c.conn.Close()
	for range c.Shutdowns { // whoever sends must not hang
	}
}

// Inhibit has logind wait with a shutdown until Release, or MaxDelay has passed.
func (c *Connection) Inhibit(ctx context.Context) error {
	if c.lock >= 0 {
		return nil
	}
	var fd dbus.UnixFD
	call := c.conn.Object(service, object).CallWithContext(ctx, manager+".Inhibit", 0, "shutdown", "shoald", "Pods are given time to end", "delay")
	if err := call.Store(&fd); err != nil {
		if e := (dbus.Error{}); errors.As(err, &e) && e.Name == service+".OperationInProgress" {
			err = ErrBegun
		}
		return fmt.Errorf("delay shutdowns: %w", err)
	}
	unix.CloseOnExec(int(fd)) // a pod's conmon would hold up the shutdown
	c.lock = int(fd)
	return nil
}

// Release lets the host shut down.
func (c *Connection) Release() {
	if c.lock >= 0 {
		unix.Close(c.lock)
		c.lock = -1
	}
}

// MaxDelay is the longest that logind waits (InhibitDelayMaxSec of
// logind.conf(5), 5 s by default).
func (c *Connection) MaxDelay() (time.Duration, error) {
	v, err := c.conn.Object(service, object).GetProperty(manager + ".InhibitDelayMaxUSec")
	if err != nil {
		return 0, fmt.Errorf("ask logind how long it waits: %w", err)
	}
	usec, ok := v.Value().(uint64)
	if !ok {
		return 0, fmt.Errorf("ask logind how long it waits: got %v", v)
	}
	return time.Duration(usec) * time.Microsecond, nil
}

// Allow has logind wait for d at least: below root a drop-in of its
// configuration is written. An error says how long it waits if that is less.
func (c *Connection) Allow(ctx context.Context, root string, d time.Duration) error {
	now, err := c.MaxDelay()
	if err != nil || now >= d {
		return err
	}
	file := filepath.Join(root, dropIn)
	text := fmt.Sprintf("# Written by shoald: [shutdown] in /etc/shoal/shoal.toml asks for as long.\n[Login]\nInhibitDelayMaxSec=%.0f\n", math.Ceil(d.Seconds()))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("raise logind's InhibitDelayMaxSec: %w", err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("raise logind's InhibitDelayMaxSec: %w", err)
	}
	const systemd = "org.freedesktop.systemd1"
	hangup := c.conn.Object(systemd, "/org/freedesktop/systemd1").CallWithContext(ctx, systemd+".Manager.KillUnit", 0, "systemd-logind.service", "main", int32(unix.SIGHUP))
	if hangup.Err != nil {
		return fmt.Errorf("have logind read its configuration: %w", hangup.Err)
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if now, err = c.MaxDelay(); err != nil || now >= d {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("logind waits %s at most, and the configuration asks for %s: set InhibitDelayMaxSec in logind.conf(5)", now, d)
		}
	}
}

// Forget removes what Allow wrote; logind follows when it next reads its
// configuration.
func Forget(root string) error {
	if err := os.Remove(filepath.Join(root, dropIn)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
