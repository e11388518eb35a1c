package service

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/proxy/nft"
)

const (
	// tableName is the table that this package owns, in family inet.
	tableName = "shoal-services"
	// hideMark is on packets whose source address is to be hidden: kube-proxy's
	// bit (--iptables-masquerade-bit).
	hideMark = 0x4000
	// maxClients is how many clients' affinity is remembered in each family; those
	// beyond it go to any endpoint. About 50 MB of the kernel's memory.
	maxClients = 1 << 18
)

// affinity is the map that the kernel fills by itself: client, frontend ->
// endpoint.
const affinityName = "affinity"

var protocols = map[v1.Protocol]uint8{v1.ProtocolTCP: unix.IPPROTO_TCP, v1.ProtocolUDP: unix.IPPROTO_UDP, v1.ProtocolSCTP: unix.IPPROTO_SCTP}

// writer collects the messages of one transaction.
type writer struct {
	conn  *nftables.Conn
	table *nftables.Table
	fixed map[string]bool // chains that are not of services
	rules int
	err   error
}

func six(is4 bool) int {
	if is4 {
		return 0
	}
	return 1
}

// structure writes what does not depend on services, and these chains of theirs,
// in place of whatever rules there are. Sets stay as they are.
func (w *writer) structure(inside []netip.Prefix, chains func(func(chain))) {
	w.fixed, w.rules = make(map[string]bool), 0
	w.conn.AddTable(w.table)
	w.conn.FlushTable(w.table)
	for _, is4 := range []bool{true, false} {
		w.addSets(is4, inside)
	}
	w.hooks()
	chains(w.addChain)
}

func (w *writer) hooks() {
	drop := nft.Verdict(expr.VerdictDrop, "")

	unserved := w.chain("unserved")
	w.fixed["unserved"] = true
	for _, is4 := range []bool{true, false} {
		f := family(is4)
		w.rule(unserved, nft.Family(is4), nft.Frontend(is4, nft.Reg), []expr.Any{nft.In("dropped"+f, nft.Reg)}, drop)
		// What is translated does not have a cluster IP any more.
		for _, answer := range [][]expr.Any{nft.Reset(), nft.Reject()} {
			w.rule(unserved, nft.Family(is4), nft.Frontend(is4, nft.Reg), []expr.Any{nft.In("refused"+f, nft.Reg)}, answer)
			w.rule(unserved, nft.Family(is4), []expr.Any{nft.Destination(is4, nft.Reg), nft.In("cluster-ips"+f, nft.Reg)}, answer)
		}
	}
	for name, hook := range map[string]*nftables.ChainHook{
		"forward": nftables.ChainHookForward, "input": nftables.ChainHookInput, "output-filter": nftables.ChainHookOutput,
	} {
		c := w.hook(name, nftables.ChainTypeFilter, hook, nftables.ChainPriorityFilter)
		w.rule(c, nft.New(), nft.Verdict(expr.VerdictJump, "unserved"))
	}

	guard := w.hook("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRef(*nftables.ChainPriorityNATDest-10))
	// Host ports, in a table of their own, come before.
	before := nftables.ChainPriorityRef(*nftables.ChainPriorityNATDest + 1)
	in := w.hook("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, before)
	out := w.hook("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, before)
	post := w.hook("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	masquerade := []expr.Any{&expr.Masq{FullyRandom: true}}
	w.rule(post, nft.Marked(hideMark), nft.Mark(hideMark, false), masquerade)
	for _, is4 := range []bool{true, false} {
		f, words := family(is4), nft.Words(is4)
		w.rule(guard, nft.New(), nft.Family(is4), nft.Frontend(is4, nft.Reg), []expr.Any{
			nft.In("guarded"+f, nft.Reg), nft.Source(is4, nft.Reg+words+2), nft.NotIn("allowed"+f, nft.Reg)}, drop)
		lead := func(name string) []expr.Any {
			return append(nft.Frontend(is4, nft.Reg), nft.VerdictMap(name+f, nft.Reg))
		}
		w.rule(in, nft.Family(is4), []expr.Any{nft.Source(is4, nft.Reg), nft.In("inside"+f, nft.Reg)}, lead("inside-services"))
		w.rule(in, nft.Family(is4), lead("services"))
		w.rule(out, nft.Family(is4), lead("inside-services"))
		w.rule(out, nft.Family(is4), lead("services"))
		w.rule(post, nft.DNATed(), nft.Family(is4), []expr.Any{
			nft.Source(is4, nft.Reg), nft.Destination(is4, nft.Reg+words), nft.In("hairpin"+f, nft.Reg)}, masquerade)
	}
}

func (w *writer) chain(name string) *nftables.Chain {
	return w.conn.AddChain(&nftables.Chain{Name: name, Table: w.table})
}

func (w *writer) hook(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
	w.fixed[name] = true
	accept := nftables.ChainPolicyAccept
	return w.conn.AddChain(&nftables.Chain{Name: name, Table: w.table, Type: kind, Hooknum: hook, Priority: prio, Policy: &accept})
}

func (w *writer) rule(c *nftables.Chain, parts ...[]expr.Any) {
	w.rules++
	w.conn.AddRule(&nftables.Rule{Table: w.table, Chain: c, Exprs: nft.Rule(parts...)})
}

func (w *writer) addSets(is4 bool, inside []netip.Prefix) {
	addr := nftables.TypeIP6Addr
	if is4 {
		addr = nftables.TypeIPAddr
	}
	join := func(more ...nftables.SetDatatype) nftables.SetDatatype { return nftables.MustConcatSetType(more...) }
	proto, port := nftables.TypeInetProto, nftables.TypeInetService
	front, target := join(addr, proto, port), join(addr, port)
	slot := join(addr, proto, port, nftables.TypeMark) // a number of the host's byte order
	for set, types := range [numSets][2]nftables.SetDatatype{
		services: {front, nftables.TypeVerdict}, insiders: {front, nftables.TypeVerdict},
		endpoints: {slot, target}, choices: {slot, nftables.TypeMark}, members: {slot, target}, refused: {front}, dropped: {front}, guarded: {front},
		allowed: {join(addr, proto, port, addr)}, cluster: {addr}, hairpin: {join(addr, addr)},
	} {
		key, data := types[0], types[1]
		s := &nftables.Set{Table: w.table, Name: setNames[set] + family(is4), KeyType: key, DataType: data,
			IsMap: data != nftables.SetDatatype{}, Concatenation: key.Name != addr.Name, Interval: set == int(allowed)}
		w.add(s)
	}
	w.add(&nftables.Set{Table: w.table, Name: affinityName + family(is4), KeyType: join(addr, addr, proto, port), DataType: nftables.TypeMark,
		IsMap: true, Concatenation: true, Dynamic: true, HasTimeout: true, Size: maxClients})
	in := &nftables.Set{Table: w.table, Name: "inside" + family(is4), KeyType: addr, Interval: true}
	w.add(in)
	w.conn.FlushSet(in)
	w.note(w.conn.SetAddElements(in, intervals(inside, is4)))
}

func (w *writer) add(s *nftables.Set) { w.note(w.conn.AddSet(s, nil)) }

// intervals are prefixes of one family as a set of ranges has them: where each
// begins, and where the next address is not in it any more. They must not
// overlap.
func intervals(list []netip.Prefix, is4 bool) (elements []nftables.SetElement) {
	for _, p := range list {
		if p.Addr().Is4() != is4 {
			continue
		}
		elements = append(elements, nftables.SetElement{Key: p.Masked().Addr().AsSlice()})
		if end := last(p).Next(); end.IsValid() {
			elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return elements
}

// addChain writes a chain that services share.
func (w *writer) addChain(ch chain) {
	c := w.chain(ch.String())
	f, words := family(ch.is4), nft.Words(ch.is4)
	switch ch.source {
	case Hide:
		w.rule(c, nft.Mark(hideMark, true))
	case HideOutside:
		w.rule(c, nft.Family(ch.is4), []expr.Any{nft.Source(ch.is4, nft.Reg), nft.NotIn("inside"+f, nft.Reg)}, nft.Mark(hideMark, true))
	}
	// choose has a slot by chance in the register after the frontend.
	choose := func(front uint32) []expr.Any {
		n := &expr.Numgen{Register: front + words + 2, Modulus: uint32(ch.slots), Type: unix.NFT_NG_RANDOM}
		if ch.inside {
			n.Offset = insideSlots
		}
		return append(nft.Frontend(ch.is4, front), n)
	}
	if ch.affinity == 0 {
		to := nft.Reg + words + 2
		w.rule(c, nft.Family(ch.is4), choose(nft.Reg), []expr.Any{nft.Map("endpoints"+f, nft.Reg, to), nft.DNAT(ch.is4, to)})
		return
	}
	front := nft.Reg + words // after the client
	id := front + words + 2
	client := []expr.Any{nft.Source(ch.is4, nft.Reg)}
	remember := []expr.Any{&expr.Dynset{
		SrcRegKey: nft.Reg, SrcRegData: id, SetName: affinityName + f, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: ch.affinity,
	}}
	// nft(8) of Debian 12 ends itself (netlink_parse_concat_expr) when it lists a key that has what a map gave: so the id goes
	// through the packet's priority, which is free at this point of a first packet's way.
	through := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: id}, &expr.Meta{Key: expr.MetaKeyPRIORITY, Register: id},
	}
	lead := []expr.Any{
		&expr.Immediate{Register: id, Data: make([]byte, 4)}, &expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: id},
		nft.DNAT(ch.is4, id+1),
	}
	member := []expr.Any{nft.Map("members"+f, front, id+1)}
	again := append(nft.Frontend(ch.is4, front), nft.Map(affinityName+f, nft.Reg, id))
	chosen := append(choose(front), nft.Map("choices"+f, front, id))
	w.rule(c, nft.Family(ch.is4), client, again, through, member, remember, lead)
	w.rule(c, nft.Family(ch.is4), client, chosen, through, member, remember, lead)
	w.rule(c, nft.Family(ch.is4), chosen, through, member, lead) // no room to remember it
}

// rules is how many rules addChain writes.
func (c chain) rules() int {
	n := 1
	if c.source != Keep {
		n++
	}
	if c.affinity > 0 {
		n += 2
	}
	return n
}

func (w *writer) delChain(ch chain) {
	w.rules -= ch.rules()
	w.delChainNamed(ch.String())
}

func (w *writer) delChainNamed(name string) {
	c := &nftables.Chain{Name: name, Table: w.table}
	w.conn.FlushChain(c)
	w.conn.DelChain(c)
}

func (w *writer) note(err error) {
	if w.err == nil {
		w.err = err
	}
}
