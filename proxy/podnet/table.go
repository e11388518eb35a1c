package podnet

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/proxy/nft"
)

// table is our table in the kernel.
type table struct {
	conn    *nftables.Conn
	raw     *netlink.Conn // asks for the ruleset's generation
	applied string        // text of what was written last; empty: nothing
	mark    string        // what the kernel showed of it afterwards
	gen     uint32        // the ruleset's generation then
}

func openTable() (*table, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	raw, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		_ = conn.CloseLasting()
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return &table{conn: conn, raw: raw}, nil
}

func (t *table) close() {
	_ = t.conn.CloseLasting()
	_ = t.raw.Close()
}

// intact tells whether the kernel still holds what was written last. It costs
// one small message unless somebody changed any table meanwhile.
func (t *table) intact() (bool, error) {
	if t.applied == "" {
		return false, nil
	}
	gen, err := nft.Generation(t.raw)
	if err != nil || gen == t.gen {
		return err == nil, err
	}
	mark, err := t.fingerprint()
	if err != nil || mark != t.mark {
		return false, err
	}
	t.gen = gen
	return true, nil
}

// fingerprint is a text of our table as the kernel shows it. A rule's handle
// stands for its content, since the kernel gives a changed rule a new one.
func (t *table) fingerprint() (string, error) {
	tables, err := t.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", fmt.Errorf("list tables: %w", err)
	}
	i := slices.IndexFunc(tables, func(x *nftables.Table) bool { return x.Name == tableName })
	if i < 0 {
		return "", nil
	}
	lines := []string{fmt.Sprintf("table flags %d", tables[i].Flags)}
	chains, err := t.conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", fmt.Errorf("list chains: %w", err)
	}
	for _, c := range chains {
		if c.Table.Name != tableName {
			continue
		}
		rules, err := t.conn.GetRules(c.Table, c)
		if err != nil {
			return "", fmt.Errorf("list rules of %s: %w", c.Name, err)
		}
		for _, r := range rules {
			lines = append(lines, fmt.Sprintf("rule %s %d", c.Name, r.Handle))
		}
		lines = append(lines, fmt.Sprintf("chain %s", c.Name))
	}
	sets, err := t.conn.GetSets(tables[i])
	if err != nil {
		return "", fmt.Errorf("list sets: %w", err)
	}
	for _, s := range sets {
		elements, err := t.conn.GetSetElements(s)
		if err != nil {
			return "", fmt.Errorf("list set %s: %w", s.Name, err)
		}
		for _, e := range elements {
			lines = append(lines, fmt.Sprintf("set %s %x %x", s.Name, e.Key, e.Val))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}

// apply makes the table hold exactly r, in one transaction: packets meet the
// old rules or the new ones. Connections keep the NAT they were given.
func (t *table) apply(r ruleset) error {
	t.applied = ""
	owned := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
	t.conn.AddTable(owned) // so that deleting it cannot fail
	t.conn.DelTable(owned)
	t.conn.AddTable(owned)
	w := writer{conn: t.conn, table: owned, rules: r}
	if err := w.write(); err != nil {
		return fmt.Errorf("encode nftables rules: %w", err)
	}
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("write table inet %s: %w", tableName, err)
	}
	// The generation comes first: a change in between makes the next look
	// compare, never miss.
	var err error
	if t.gen, err = nft.Generation(t.raw); err != nil {
		return err
	}
	if t.mark, err = t.fingerprint(); err != nil {
		return err
	}
	t.applied = r.String()
	return nil
}

// remove deletes the table.
func (t *table) remove() error {
	t.applied = ""
	owned := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
	t.conn.AddTable(owned)
	t.conn.DelTable(owned)
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("delete table inet %s: %w", tableName, err)
	}
	return nil
}

// writer collects the messages of one transaction. Its order and content are
// those of ruleset.String.
type writer struct {
	conn  *nftables.Conn
	table *nftables.Table
	rules ruleset
}

func (w writer) write() error {
	for _, c := range w.rules.CIDRs {
		if err := w.sets(c.Addr().Is4()); err != nil {
			return err
		}
	}
	w.guard()
	w.quiet()
	hostports := w.chain("hostports")
	for _, p := range w.rules.Former {
		w.rule(hostports, within(nft.Destination, expr.CmpOpEq, single(gateway(p))), nft.Verdict(expr.VerdictReturn, ""))
	}
	for _, c := range w.rules.CIDRs {
		w.hostports(hostports, c)
	}
	jump := nft.Verdict(expr.VerdictJump, "hostports")
	w.rule(w.hook("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest), jump)
	w.rule(w.hook("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest), jump)
	w.source()
	return nil
}

func (w writer) chain(name string) *nftables.Chain {
	return w.conn.AddChain(&nftables.Chain{Name: name, Table: w.table})
}

func (w writer) hook(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return w.conn.AddChain(&nftables.Chain{Name: name, Table: w.table, Type: kind, Hooknum: hook, Priority: prio, Policy: &accept})
}

func (w writer) rule(c *nftables.Chain, parts ...[]expr.Any) {
	w.conn.AddRule(&nftables.Rule{Table: w.table, Chain: c, Exprs: nft.Rule(parts...)})
}

func (w writer) sets(is4 bool) error {
	addr := nftables.TypeIP6Addr
	if is4 {
		addr = nftables.TypeIPAddr
	}
	s := suffix(is4)
	target := nftables.MustConcatSetType(addr, nftables.TypeInetService)
	anyKey := nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	boundKey := nftables.MustConcatSetType(addr, nftables.TypeInetProto, nftables.TypeInetService)
	for _, bound := range []bool{true, false} {
		set := &nftables.Set{Table: w.table, Name: "any" + s, IsMap: true, Concatenation: true, KeyType: anyKey, DataType: target}
		if bound {
			set.Name, set.KeyType = "bound"+s, boundKey
		}
		var elements []nftables.SetElement
		for _, p := range w.rules.ports(is4, bound) {
			elements = append(elements, p.element())
		}
		if err := w.conn.AddSet(set, elements); err != nil {
			return err
		}
	}
	pair := &nftables.Set{Table: w.table, Name: "hairpin" + s, Concatenation: true, KeyType: nftables.MustConcatSetType(addr, addr)}
	var elements []nftables.SetElement
	for _, a := range w.rules.hairpins(is4) {
		elements = append(elements, nftables.SetElement{Key: append(a.AsSlice(), a.AsSlice()...)})
	}
	if err := w.conn.AddSet(pair, elements); err != nil {
		return err
	}
	return w.sealed(is4, addr)
}

// sealed is a set of intervals: each is where it begins and the address after
// its end.
func (w writer) sealed(is4 bool, addr nftables.SetDatatype) error {
	list := of(is4, w.rules.Sealed)
	if len(list) == 0 {
		return nil
	}
	set := &nftables.Set{Table: w.table, Name: "sealed" + suffix(is4), Interval: true, KeyType: addr}
	var elements []nftables.SetElement
	for _, p := range list {
		elements = append(elements, nftables.SetElement{Key: p.Masked().Addr().AsSlice()})
		if end := after(p); end.IsValid() {
			elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return w.conn.AddSet(set, elements)
}

// after is the address that follows a prefix, invalid for the last one.
func after(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i, m := range net.CIDRMask(p.Bits(), p.Addr().BitLen()) {
		b[i] |= ^m
	}
	last, _ := netip.AddrFromSlice(b)
	return last.Next()
}

func (p portRule) element() nftables.SetElement {
	return nftables.SetElement{
		Key: nft.Key(p.HostIP, byte(p.Protocol), p.HostPort),
		Val: nft.Key(p.To.Addr(), 0, p.To.Port()),
	}
}

func (w writer) guard() {
	bridge := w.rules.Bridge
	c := w.hook("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	drop, accept := nft.Verdict(expr.VerdictDrop, ""), nft.Verdict(expr.VerdictAccept, "")
	w.rule(c, from(bridge), within(nft.Destination, expr.CmpOpEq, loopback4), drop)
	for _, is4 := range families {
		if len(of(is4, w.rules.Sealed)) > 0 {
			in := []expr.Any{nft.Source(is4, nft.Reg), nft.In("sealed"+suffix(is4), nft.Reg)}
			w.rule(c, device(expr.MetaKeyIIFNAME, expr.CmpOpNeq, SealedDevice), nft.Family(is4), in, drop)
		}
	}
	for _, p := range w.rules.Former {
		w.rule(c, from(bridge), within(nft.Source, expr.CmpOpEq, p), accept)
	}
	for _, cidr := range w.rules.CIDRs {
		if cidr.Addr().Is4() {
			w.rule(c, from(bridge), within(nft.Source, expr.CmpOpNeq, cidr), drop)
			continue
		}
		for _, ok := range []netip.Prefix{cidr, linkLocal6, single(netip.IPv6Unspecified())} {
			w.rule(c, from(bridge), within(nft.Source, expr.CmpOpEq, ok), accept)
		}
		w.rule(c, from(bridge), nft.Family(false), drop)
	}
}

// quiet drops ICMP redirects: that two pods share a device must not tempt them
// to talk past the host.
func (w writer) quiet() {
	const redirect4, redirect6 = 5, 137 // RFC 792, RFC 4861
	c := w.hook("quiet", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter)
	drop := nft.Verdict(expr.VerdictDrop, "")
	w.rule(c, to(w.rules.Bridge), icmpType(true, redirect4), drop)
	w.rule(c, to(w.rules.Bridge), icmpType(false, redirect6), drop)
}

func (w writer) hostports(c *nftables.Chain, cidr netip.Prefix) {
	is4 := cidr.Addr().Is4()
	w.rule(c, nft.Family(is4), []expr.Any{nft.Destination(is4, nft.Reg)}, nft.Port(nft.Reg+nft.Words(is4)), dnatByMap(is4, "bound"+suffix(is4)))
	w.rule(c, within(nft.Destination, expr.CmpOpNeq, single(gateway(cidr))), hostAddr(), nft.Port(nft.Reg), dnatByMap(is4, "any"+suffix(is4)))
}

func (w writer) source() {
	outbound := w.chain("outbound")
	for _, p := range w.rules.Keep {
		w.rule(outbound, within(nft.Destination, expr.CmpOpEq, p), nft.Verdict(expr.VerdictReturn, ""))
	}
	w.rule(outbound, []expr.Any{&expr.Masq{FullyRandom: true}})
	c := w.hook("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	masquerade := []expr.Any{&expr.Masq{}}
	for _, cidr := range w.rules.CIDRs {
		w.rule(c, toTunnel(), within(nft.Source, expr.CmpOpNeq, cidr), nft.SNAT(gateway(cidr)))
	}
	for _, p := range w.rules.Former {
		w.rule(c, notTo(w.rules.Bridge), within(nft.Source, expr.CmpOpEq, p), masquerade)
	}
	for _, cidr := range w.rules.CIDRs {
		is4 := cidr.Addr().Is4()
		if is4 {
			w.rule(c, to(w.rules.Bridge), nft.DNATed(), within(nft.Source, expr.CmpOpEq, loopback4), masquerade)
		}
		pair := []expr.Any{
			nft.Source(is4, nft.Reg), nft.Destination(is4, nft.Reg+nft.Words(is4)),
			nft.In("hairpin"+suffix(is4), nft.Reg),
		}
		w.rule(c, to(w.rules.Bridge), nft.DNATed(), nft.Family(is4), pair, masquerade)
		w.rule(c, notTo(w.rules.Bridge), within(nft.Source, expr.CmpOpEq, cidr), nft.Verdict(expr.VerdictJump, "outbound"))
	}
}
