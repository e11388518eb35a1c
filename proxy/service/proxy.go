package service

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	link "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/proxy/nft"
)

// Config is what a Proxy needs to know of the network.
type Config struct {
	// Inside are the addresses of all nodes' pods: clients there are seen with their
	// own, and traffic policies for the outside do not bind them. They must not
	// overlap.
	Inside []netip.Prefix
	// Local are those of this node's.
	Local []netip.Prefix
}

func (c Config) equal(o Config) bool {
	return slices.Equal(c.Inside, o.Inside) && slices.Equal(c.Local, o.Local)
}

// Proxy keeps the kernel's table as the services are. Its methods may be called
// at once.
type Proxy struct {
	log  *slog.Logger
	conn *nftables.Conn
	raw  *netlink.Conn // elements, and the ruleset's generation
	host *link.Handle  // forgets flows

	mu      sync.Mutex
	config  Config
	table   *Table
	written bool            // the kernel has the table, unless somebody else changed it
	gen     uint32          // the ruleset's generation then
	rules   int             // how many the table has
	fixed   map[string]bool // chains that it always has
}

// Open makes a Proxy without services. What a former one left in the kernel stays
// in force until the first Apply.
func Open(c Config, log *slog.Logger) (*Proxy, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	raw, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err == nil {
		err = enlarge(raw)
	}
	if err != nil {
		_ = conn.CloseLasting()
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	host, err := link.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		_, _ = conn.CloseLasting(), raw.Close()
		return nil, fmt.Errorf("open connection tracking: %w", err)
	}
	p := &Proxy{log: log, conn: conn, raw: raw, host: host, config: c}
	p.table = NewTable(p.isLocal)
	return p, nil
}

// Close leaves the table in force.
func (p *Proxy) Close() {
	_ = p.conn.CloseLasting()
	_ = p.raw.Close()
	p.host.Close()
}

func (p *Proxy) isLocal(a netip.Addr) bool {
	return slices.ContainsFunc(p.config.Local, func(l netip.Prefix) bool { return l.Contains(a) })
}

// Apply has these services be as wished, and the kernel hold what all of them
// wish: in one transaction, which changes no more than it must. A service without
// rules is gone.
func (p *Proxy) Apply(wishes map[Key]Wish) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var c Change
	for key, w := range wishes {
		p.table.Set(key, w, &c)
	}
	if p.written && c.Empty() {
		return nil
	}
	if err := p.write(&c); err != nil {
		return err
	}
	return c.forget(p.host)
}

// Replace is Apply for all services: those that are not among them are gone.
func (p *Proxy) Replace(wishes map[Key]Wish) error {
	p.mu.Lock()
	for _, key := range p.table.Keys() {
		if _, stays := wishes[key]; !stays {
			wishes[key] = Wish{}
		}
	}
	p.mu.Unlock()
	return p.Apply(wishes)
}

// Reconfigure puts another Config in force.
func (p *Proxy) Reconfigure(c Config) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.config.equal(c) {
		return nil
	}
	p.config = c
	old := p.table
	p.table = NewTable(p.isLocal)
	for key, w := range old.wishes {
		p.table.Set(key, w, nil)
	}
	return p.repair()
}

// Check writes the table again if somebody else has changed it, and says so.
func (p *Proxy) Check() (repaired bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ok, err := p.intact(); ok || err != nil {
		return false, err
	}
	return true, p.repair()
}

// Lost are the frontends that a service wants and another, older one has.
func (p *Proxy) Lost(key Key) map[Frontend]Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	lost := make(map[Frontend]Key)
	for _, f := range p.table.Lost(key) {
		lost[f], _ = p.table.Holder(f)
	}
	return lost
}

// Remove deletes the table.
func (p *Proxy) Remove() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written = false
	return p.remove()
}

func (p *Proxy) remove() error {
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
	p.conn.AddTable(t) // so that deleting it cannot fail
	p.conn.DelTable(t)
	if err := p.conn.Flush(); err != nil {
		return fmt.Errorf("delete table inet %s: %w", tableName, err)
	}
	return nil
}

// write writes a change, or all where the change alone is not enough. A chain is
// there before an element leads to it, and as long as one does.
func (p *Proxy) write(c *Change) error {
	if !p.written {
		return p.repair()
	}
	if err := p.change(c); err != nil {
		p.log.Warn("a change of services is not what the kernel expects", "err", err) // somebody else has changed the table
		return p.repair()
	}
	return nil
}

func (p *Proxy) change(c *Change) error {
	w := p.writer()
	for ch, by := range c.chains {
		if by > 0 {
			w.addChain(ch)
		}
	}
	if err := p.flush(w); err != nil {
		return err
	}
	gone, fresh := &batch{kind: unix.NFT_MSG_DELSETELEM}, &batch{kind: unix.NFT_MSG_NEWSETELEM}
	for e, by := range c.elements {
		if by < 0 {
			gone.add(e.set, e.is4(), e.encode())
		} else if by > 0 {
			fresh.add(e.set, e.is4(), e.encode())
		}
	}
	if err := send(p.raw, gone, fresh); err != nil {
		return fmt.Errorf("write the elements of table inet %s: %w", tableName, err)
	}
	for ch, by := range c.chains {
		if by < 0 {
			w.delChain(ch)
		}
	}
	return p.finish(w)
}

func (p *Proxy) writer() *writer {
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
	return &writer{conn: p.conn, table: t, fixed: p.fixed, rules: p.rules}
}

func (p *Proxy) flush(w *writer) error {
	p.written = false
	err := p.conn.Flush()
	if w.err != nil {
		err = w.err
	}
	if err != nil {
		return fmt.Errorf("write table inet %s: %w", tableName, err)
	}
	return nil
}

// finish writes what is left to write, and notes how things stand.
func (p *Proxy) finish(w *writer) error {
	if err := p.flush(w); err != nil {
		return err
	}
	p.rules, p.fixed = w.rules, w.fixed
	gen, err := nft.Generation(p.raw)
	if err != nil {
		return err
	}
	p.gen, p.written = gen, true
	return nil
}
