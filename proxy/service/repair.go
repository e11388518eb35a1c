package service

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/proxy/nft"
)

// present is what the kernel's table has.
type present struct {
	elements [numSets][2]map[encoded]bool
	chains   map[string]bool
	rules    int
}

// read reads the table.
func (p *Proxy) read() (*present, error) {
	is := present{chains: make(map[string]bool)}
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
	tables, err := p.conn.ListTablesOfFamily(t.Family)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(is *nftables.Table) bool { return is.Name == tableName }) {
		return &is, nil
	}
	sets, err := p.conn.GetSets(t)
	if err != nil {
		return nil, fmt.Errorf("list sets: %w", err)
	}
	named := make(map[string]*nftables.Set)
	for _, s := range sets {
		named[s.Name] = s
	}
	for n := range is.elements {
		for f := range is.elements[n] {
			is.elements[n][f] = make(map[encoded]bool)
			s := named[setNames[n]+family(f == 0)]
			if s == nil {
				continue
			}
			elements, err := p.conn.GetSetElements(s)
			if err != nil {
				return nil, fmt.Errorf("read set %s: %w", s.Name, err)
			}
			for _, e := range elements {
				is.elements[n][f][decode(set(n), e)] = true
			}
		}
	}
	chains, err := p.conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	for _, c := range chains {
		if c.Table.Name != tableName {
			continue
		}
		is.chains[c.Name] = true
		rules, err := p.conn.GetRules(t, c)
		if err != nil {
			return nil, fmt.Errorf("list rules of %s: %w", c.Name, err)
		}
		is.rules += len(rules)
	}
	return &is, nil
}

// differ gathers what leads from what is to the table.
func (t *Table) differ(is *present) (gone, fresh *batch, extra map[string]bool) {
	gone, fresh = &batch{kind: unix.NFT_MSG_DELSETELEM}, &batch{kind: unix.NFT_MSG_NEWSETELEM}
	extra = is.chains
	t.each(func(ch chain) { delete(extra, ch.String()) }, func(e element) {
		want, have := e.encode(), is.elements[e.set][six(e.is4())]
		if have[want] {
			delete(have, want)
		} else {
			fresh.add(e.set, e.is4(), want)
		}
	})
	for s := range is.elements {
		for f, left := range is.elements[s] {
			for e := range left {
				gone.add(set(s), f == 0, e)
			}
		}
	}
	return gone, fresh, extra
}

// intact says whether the kernel holds what was written last. It costs one small
// message unless somebody has changed any table since; then all of ours is read.
func (p *Proxy) intact() (bool, error) {
	if !p.written {
		return false, nil
	}
	gen, err := nft.Generation(p.raw)
	if err != nil || gen == p.gen {
		return true, err
	}
	is, err := p.read()
	if err != nil {
		p.log.Warn("the table of services can't be read; it is written anew", "err", err)
		return false, nil
	}
	rules := is.rules
	gone, fresh, extra := p.table.differ(is)
	for name := range p.fixed {
		delete(extra, name)
	}
	if len(gone.messages())+len(fresh.messages())+len(extra) > 0 || rules != p.rules {
		p.log.Warn("somebody has changed the table of services; it is written anew")
		return false, nil
	}
	p.gen = gen
	return true, nil
}

// repair makes the kernel hold the table, whatever it holds: it changes the
// elements that are not as they should be, so that services that are go on, and
// clients stay with their endpoints. Where that can't be done, as with another
// version's table, it begins anew.
func (p *Proxy) repair() error {
	p.written = false
	err := p.mend()
	if err == nil {
		return nil
	}
	p.log.Warn("the table of services is made anew", "err", err)
	if err := p.remove(); err != nil {
		return err
	}
	return p.mend()
}

func (p *Proxy) mend() error {
	is, err := p.read()
	if err != nil {
		return err
	}
	w := p.writer()
	w.structure(p.config.Inside, func(add func(chain)) { p.table.each(add, func(element) {}) })
	if err := p.flush(w); err != nil {
		return err
	}
	gone, fresh, extra := p.table.differ(is)
	if err := send(p.raw, gone, fresh); err != nil {
		return fmt.Errorf("write the elements of table inet %s: %w", tableName, err)
	}
	for name := range extra {
		if !w.fixed[name] {
			w.delChainNamed(name)
		}
	}
	return p.finish(w)
}
