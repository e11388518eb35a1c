package daemon

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/shoal-project/shoal/proxy/service"
)

// lead is what the kernel is to do for services, as the loop last said it; one
// goroutine follows.
type lead struct {
	mu     sync.Mutex
	all    map[service.Key]service.Wish
	dirty  map[service.Key]bool
	usable bool // all is what the records say, not the beginning of it
	wake   chan struct{}
	look   chan struct{}
}

func newLead() lead { return lead{wake: make(chan struct{}, 1), look: make(chan struct{}, 1)} }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// say has services be as wished.
func (l *lead) say(wishes map[service.Key]service.Wish, usable bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all, l.dirty = make(map[service.Key]service.Wish), make(map[service.Key]bool)
	}
	for key, w := range wishes {
		if l.dirty[key] = true; len(w.Rules) == 0 {
			delete(l.all, key)
		} else {
			l.all[key] = w
		}
	}
	if usable && (!l.usable || len(wishes) > 0) {
		l.usable = true
		poke(l.wake)
	}
}

// next is what has changed since it was asked last, and whether anything counts yet.
func (l *lead) next() (wishes map[service.Key]service.Wish, usable bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.usable {
		return nil, false
	}
	wishes = make(map[service.Key]service.Wish)
	for key := range l.dirty {
		wishes[key] = l.all[key]
	}
	clear(l.dirty)
	return wishes, true
}

// again has these be written again.
func (l *lead) again(wishes map[service.Key]service.Wish) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range wishes {
		l.dirty[key] = true
	}
}

// everything is all wishes.
func (l *lead) everything() map[service.Key]service.Wish {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.dirty)
	return maps.Clone(l.all)
}

// leadServices has the kernel lead services' connections to their endpoints, until
// ctx ends. The rules stay then: who starts again finds them, and nothing is
// interrupted meanwhile.
func (h *host) leadServices(ctx context.Context) {
	select {
	case <-h.network.opened:
	case <-ctx.Done():
		return
	}
	var proxy *service.Proxy
	var about service.Config
	for tries := 0; ; {
		err := h.leadOnce(&proxy, &about)
		var again <-chan time.Time
		if err != nil {
			tries++
			h.d.Log.Error("can't lead connections to services as they are now", "err", err)
			again = time.After(networkAgain(tries))
		} else {
			tries = 0
		}
		select {
		case <-h.d.lead.wake:
		case <-h.d.lead.look:
			if proxy != nil {
				if _, err := proxy.Check(); err != nil {
					h.d.Log.Error("can't repair the rules of services", "err", err)
				}
			}
		case <-again:
		case <-ctx.Done():
			if proxy != nil {
				proxy.Close()
			}
			return
		}
	}
}

// leadOnce brings the kernel up to date. The first time what a former daemon left
// is replaced.
func (h *host) leadOnce(proxy **service.Proxy, about *service.Config) error {
	wishes, usable := h.d.lead.next()
	if !usable {
		return nil
	}
	c := service.Config{Inside: h.d.Config.Network.ClusterCIDRs, Local: h.podRanges()}
	if *proxy == nil {
		p, err := service.Open(c, h.d.Log)
		if err == nil {
			if err = p.Replace(h.d.lead.everything()); err != nil {
				p.Close()
			}
		}
		if err != nil {
			h.d.lead.again(wishes)
			return err
		}
		*proxy, *about = p, c
		return nil
	}
	var errs []error
	if !slices.Equal(c.Local, about.Local) {
		if err := (*proxy).Reconfigure(c); err != nil {
			errs = append(errs, err)
		} else {
			*about = c
		}
	}
	if len(wishes) > 0 {
		if err := (*proxy).Apply(wishes); err != nil {
			h.d.lead.again(wishes)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sameAddresses says whether the host has the addresses that it had.
func sameAddresses(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
