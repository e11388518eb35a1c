package agent

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// processWatch tells when a process of a pod ends: pause processes, which
// nobody else watches, and the first processes of containers, whose conmon may
// have been killed with them. One thread waits for all (epoll over pidfds).
type processWatch struct {
	epoll int
	ended func(types.UID)

	mu   sync.Mutex
	pids map[int32]types.UID // by pidfd
}

func watchProcesses(ended func(types.UID)) (*processWatch, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch processes: %w", err)
	}
	w := &processWatch{epoll: fd, ended: ended, pids: make(map[int32]types.UID)}
	go w.run()
	return w, nil
}

// add watches a process until it ends. One that has ended already is told at once.
func (w *processWatch) add(pid int, uid types.UID) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		w.ended(uid)
		return
	}
	w.mu.Lock()
	w.pids[int32(fd)] = uid
	w.mu.Unlock()
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		w.forget(int32(fd))
		w.ended(uid)
	}
}

// forget closes a pidfd. Closing does not take it out of the epoll set as long
// as a child that is being forked has a copy of it: more would be heard of a
// number that by then is another file's.
func (w *processWatch) forget(fd int32) (uid types.UID, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if uid, known = w.pids[fd]; !known {
		return "", false
	}
	delete(w.pids, fd)
	_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, int(fd), nil) // ENOENT: it was never in
	unix.Close(int(fd))
	return uid, true
}

// run ends when the daemon does: the descriptor is never closed before.
func (w *processWatch) run() {
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(w.epoll, events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		for _, e := range events[:n] {
			if uid, known := w.forget(e.Fd); known {
				w.ended(uid)
			}
		}
	}
}
