package scope

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/godbus/dbus/v5"
)

const (
	privateSocket  = "/run/systemd/private"
	managerName    = "org.freedesktop.systemd1"
	managerPath    = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerIface   = "org.freedesktop.systemd1.Manager"
	jobRemoved     = managerIface + ".JobRemoved"
	errUnitExists  = managerName + ".UnitExists"
	errNoSuchUnit  = managerName + ".NoSuchUnit"
	errUnknownUnit = "org.freedesktop.DBus.Error.UnknownObject"
)

// errLost says that the connection broke while a call or job was under way, so
// that nobody knows whether it was done.
var errLost = errors.New("connection to systemd lost")

// bus talks to systemd. It connects when it is first needed and again whenever
// the connection broke: systemd drops it when it re-executes itself, and the
// system bus when it restarts.
//
// go-systemd's connection holds a lock from the call that starts a job to its
// reply, so that parallel starts queue up; here waiters are found by the name
// of the unit instead, which is known before the call.
type bus struct {
	log *slog.Logger

	mu      sync.Mutex
	conn    *dbus.Conn
	waiters map[string]map[*waiter]struct{} // by unit
}

// waiter collects the ends of one unit's jobs.
type waiter struct {
	ended map[dbus.ObjectPath]string // results, guarded by bus.mu
	lost  bool                       // guarded by bus.mu
	poke  chan struct{}
}

func newBus(log *slog.Logger) *bus {
	return &bus{log: log, waiters: map[string]map[*waiter]struct{}{}}
}

// dial connects to systemd itself if we may, which saves a hop and works while
// dbus-daemon does not; else to the system bus.
func dial() (*dbus.Conn, error) {
	conn, err := dialPrivate()
	if err == nil {
		return conn, nil
	}
	system, systemErr := dbus.ConnectSystemBus()
	if systemErr != nil {
		return nil, errors.Join(err, systemErr)
	}
	matchErr := system.AddMatchSignal(dbus.WithMatchInterface(managerIface), dbus.WithMatchMember("JobRemoved"))
	if matchErr != nil {
		system.Close()
		return nil, matchErr
	}
	return system, nil
}

func dialPrivate() (*dbus.Conn, error) {
	socket, err := net.Dial("unix", privateSocket)
	if err != nil {
		return nil, err
	}
	conn, err := dbus.NewConn(newJobSignals(socket))
	if err != nil {
		socket.Close()
		return nil, err
	}
	// The number of the user: looking up its name would need cgo.
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// connection is the one in use, or a new one.
func (b *bus) connection() (*dbus.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil && b.conn.Connected() {
		return b.conn, nil
	}
	conn, err := dial()
	if err != nil {
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	if b.conn != nil {
		b.log.Info("connected to systemd again")
	}
	b.conn = conn
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	go b.receive(signals)
	return conn, nil
}

// receive ends when the connection does, which closes signals.
func (b *bus) receive(signals <-chan *dbus.Signal) {
	for s := range signals {
		var id uint32
		var job dbus.ObjectPath
		var unit, result string
		if s.Name == jobRemoved && dbus.Store(s.Body, &id, &job, &unit, &result) == nil {
			b.wake(unit, func(w *waiter) { w.ended[job] = result })
		}
	}
	b.mu.Lock()
	units := make([]string, 0, len(b.waiters))
	for unit := range b.waiters {
		units = append(units, unit)
	}
	b.mu.Unlock()
	for _, unit := range units {
		b.wake(unit, func(w *waiter) { w.lost = true })
	}
}

func (b *bus) wake(unit string, tell func(*waiter)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.waiters[unit] {
		tell(w)
		select {
		case w.poke <- struct{}{}:
		default: // it has a poke waiting
		}
	}
}

func (b *bus) watch(unit string) (*waiter, func()) {
	w := &waiter{ended: map[dbus.ObjectPath]string{}, poke: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiters[unit] == nil {
		b.waiters[unit] = map[*waiter]struct{}{}
	}
	b.waiters[unit][w] = struct{}{}
	return w, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.waiters[unit], w)
		if len(b.waiters[unit]) == 0 {
			delete(b.waiters, unit)
		}
	}
}

// call calls a method of systemd's manager and stores what it returns.
func (b *bus) call(ctx context.Context, method string, args, into []any) error {
	return b.callOn(ctx, managerPath, managerIface+"."+method, args, into)
}

func (b *bus) callOn(ctx context.Context, path dbus.ObjectPath, method string, args, into []any) error {
	for attempt := 0; ; attempt++ {
		conn, err := b.connection()
		if err != nil {
			return err
		}
		err = conn.Object(managerName, path).CallWithContext(ctx, method, 0, args...).Store(into...)
		if !isLost(err) {
			return err
		}
		// The connection may have been dead for long: that was no answer.
		if attempt > 0 {
			return errors.Join(errLost, err)
		}
	}
}

func isLost(err error) bool {
	return errors.Is(err, dbus.ErrClosed) || errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// job calls a method that starts a job on unit, and waits for the job's end.
func (b *bus) job(ctx context.Context, unit, method string, args ...any) error {
	w, done := b.watch(unit)
	defer done()
	var job dbus.ObjectPath
	if err := b.call(ctx, method, args, []any{&job}); err != nil {
		return err
	}
	for {
		b.mu.Lock()
		result, ended := w.ended[job]
		lost := w.lost
		b.mu.Unlock()
		switch {
		case ended && result == "done":
			return nil
		case ended:
			return fmt.Errorf("job %s of %s: %s", method, unit, result)
		case lost:
			return errLost
		}
		select {
		case <-w.poke:
		case <-ctx.Done():
			return fmt.Errorf("wait for job %s of %s: %w", method, unit, context.Cause(ctx))
		}
	}
}

func (b *bus) close() error {
	b.mu.Lock()
	conn := b.conn
	b.mu.Unlock()
	if conn == nil {
		return nil
	}
	return conn.Close()
}

// isBusError says that systemd answered with an error of one of these names.
func isBusError(err error, names ...string) bool {
	var e dbus.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, name := range names {
		if e.Name == name {
			return true
		}
	}
	return false
}
