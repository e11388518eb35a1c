package dnsd

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"k8s.io/apimachinery/pkg/types"
)

// node is all that a zone knows of one name. It never changes: a change puts
// another in its place.
type node struct {
	records []counted // sorted
	below   int       // names of one label more that exist
}

// counted is a record and how many sources have it.
type counted struct {
	record
	sources int
}

func (n *node) empty() bool { return len(n.records) == 0 && n.below == 0 }

// sourceKey is what a source replaces.
type sourceKey struct{ kind, namespace, name string }

// SetPod makes p's names those that p has, whatever they were. The zone keeps
// p's slices, which must not change any more.
func (z *Zone) SetPod(p Pod) { z.set(sourceKey{"pod", p.Namespace, p.Name}, p) }

// RemovePod takes a pod's names away.
func (z *Zone) RemovePod(namespace, name string) { z.set(sourceKey{"pod", namespace, name}, nil) }

// SetService makes s's names those that s has, whatever they were. The zone
// keeps s's slices, which must not change any more.
func (z *Zone) SetService(s Service) { z.set(sourceKey{"service", s.Namespace, s.Name}, s) }

// RemoveService takes a service's names away.
func (z *Zone) RemoveService(namespace, name string) {
	z.set(sourceKey{"service", namespace, name}, nil)
}

// SetNameservers says where pods reach the server.
func (z *Zone) SetNameservers(addrs []netip.Addr) {
	z.set(sourceKey{kind: "nameservers"}, nameservers{z.nameserver, addrs})
}

// set puts a source in the place of the one that had its key; nil: nothing.
func (z *Zone) set(key sourceKey, s source) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.setSearch(key, s)
	var before, after []fact
	if old := z.sources[key]; old != nil {
		before = old.facts(z)
	}
	delete(z.sources, key)
	if s != nil {
		z.sources[key] = s
		after = s.facts(z)
	}
	z.change(difference(before, after))
}

// difference is what to add to the number of sources of each fact; one that
// stands in a list twice counts once.
func difference(before, after []fact) map[fact]int {
	const was, is = 1, 2
	seen := make(map[fact]int, max(len(before), len(after)))
	for _, f := range before {
		seen[f] |= was
	}
	for _, f := range after {
		seen[f] |= is
	}
	for f, when := range seen {
		switch when {
		case was:
			seen[f] = -1
		case is:
			seen[f] = 1
		default:
			delete(seen, f)
		}
	}
	return seen
}

// change adds to how many sources have each fact. A reader sees each name as it
// was before or as it is afterwards. Names that appear come before those that
// go, lest what is above both is gone for a moment.
func (z *Zone) change(changes map[fact]int) {
	byName := make(map[string]map[record]int)
	for f, n := range changes {
		if _, ok := dns.IsDomainName(f.name); n == 0 || !ok || f.name == "." {
			continue
		}
		if byName[f.name] == nil {
			byName[f.name] = make(map[record]int)
		}
		byName[f.name][f.record] = n
	}
	var going []string
	for name, records := range byName {
		if gains(records) {
			z.changeName(name, records)
		} else {
			going = append(going, name)
		}
	}
	for _, name := range going {
		z.changeName(name, byName[name])
	}
}

func gains(records map[record]int) bool {
	for _, n := range records {
		if n > 0 {
			return true
		}
	}
	return false
}

func (z *Zone) changeName(name string, changes map[record]int) {
	old := z.at(name)
	records := make([]counted, 0, len(old.records)+len(changes))
	for _, c := range old.records {
		if n, ok := changes[c.record]; ok {
			c.sources += n
			delete(changes, c.record)
		}
		if c.sources > 0 {
			records = append(records, c)
		} else {
			z.sum -= hash(name, c.record)
		}
	}
	for r, n := range changes {
		records = append(records, counted{r, n})
		z.sum += hash(name, r)
	}
	slices.SortFunc(records, func(a, b counted) int { return a.record.compare(b.record) })
	z.serial.Store(uint32(z.sum ^ z.sum>>32))
	z.put(name, old, &node{records: slices.Clip(records), below: old.below})
}

// put replaces what is known of a name. The names above it exist as long as it
// does, up to the top of its zone.
func (z *Zone) put(name string, old, now *node) {
	appears, goes := old.empty() && !now.empty(), !old.empty() && now.empty()
	if goes {
		z.names.Delete(name)
	} else if !now.empty() {
		z.names.Store(name, now)
	}
	_, above, _ := strings.Cut(name, ".")
	if !appears && !goes || z.origins[name] || z.originOf(name) == "" {
		return
	}
	parent := z.at(above)
	changed := *parent
	if appears {
		changed.below++
	} else {
		changed.below--
	}
	z.put(above, parent, &changed)
}

// at is what is known of a name, empty if nothing is.
func (z *Zone) at(name string) *node {
	if n, ok := z.names.Load(name); ok {
		return n.(*node)
	}
	return &node{}
}

// hash is the same on all hosts. The sum over all records makes the serial, so
// that equal zones have equal ones, however they came to be.
func hash(name string, r record) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	h.Write(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, r.rrtype), r.port))
	h.Write(r.addr.AsSlice())
	h.Write([]byte(r.text))
	return h.Sum64()
}

// Sources are the services and the pods in the zone, in any order.
func (z *Zone) Sources() (services, pods []types.NamespacedName) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for key := range z.sources {
		switch name := (types.NamespacedName{Namespace: key.namespace, Name: key.name}); key.kind {
		case "service":
			services = append(services, name)
		case "pod":
			pods = append(pods, name)
		}
	}
	return services, pods
}
