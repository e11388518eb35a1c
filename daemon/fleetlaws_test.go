package daemon

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// TestHostsAgreeWhateverIsEditedWhere: people edit, move, restore and remove
// files, clients write and delete, hosts restart and hear of each other in any
// order. When all have heard of all, all have the same, and each host's files are
// shown as what they are.
func TestHostsAgreeWhateverIsEditedWhere(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { anyEdits(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func anyEdits(t *testing.T, chance *rand.Rand) {
	h := openHosts(t, "n1", "n2", "n3")
	var log []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(strings.Join(log, "\n"))
		}
	})
	for step := range 60 {
		for _, f := range h.nodes {
			f.now = f.now.Add(time.Duration(1+chance.IntN(1000)) * time.Millisecond)
		}
		i := chance.IntN(len(h.nodes))
		f, name := h.nodes[i], []string{"a.yaml", "b.yaml"}[chance.IntN(8)/7]
		did := ""
		switch chance.IntN(10) {
		case 0, 1: // new content, or one of before
			did = fmt.Sprint("file ", name, " v", chance.IntN(step+1))
			f.write(name, configMap("x", "a", strings.Fields(did)[2]))
			f.scan()
		case 2:
			if _, err := os.Stat(filepath.Join(f.Root, "etc/shoal/manifests", name)); err == nil {
				did = "rm " + name
				f.remove(name)
				f.look()
			}
		case 3:
			did = fmt.Sprint("put api", step)
			f.put(fmt.Sprint("api", step))
		case 4:
			err := f.delete()
			if err != nil && !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
			did = fmt.Sprint("delete ", err)
		case 5:
			did = "restart"
			h.restart(i, func(f *files) {
				if chance.IntN(3) == 0 {
					did += " edited"
					f.write(name, configMap("x", "a", fmt.Sprint("v", chance.IntN(step+1))))
				}
			})
		case 6:
			did = "meet"
			h.meet()
			h.agree(log)
		default:
			from := h.nodes[chance.IntN(len(h.nodes))]
			did = "hear " + from.Config.Node
			if from != f {
				h.hears(f, from)
			}
		}
		log = append(log, fmt.Sprintf("%s %s: %s", f.Config.Node, did, h.nodes[i].identity()))
	}
	h.meet()
	h.agree(log)
	for _, f := range h.nodes {
		for _, name := range []string{"a.yaml", "b.yaml"} {
			if err := os.Remove(filepath.Join(f.Root, "etc/shoal/manifests", name)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		f.look()
	}
	h.meet()
	if err := h.nodes[0].delete(); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	h.meet()
	for _, f := range h.nodes { // every API copy has been heard of; files that it overrode are gone
		f.look()
	}
	h.meet()
	h.says("without any file, and deleted", "none")
	for _, f := range h.nodes {
		if v := f.Daemon.own(claimName(configKey)); v != nil {
			t.Errorf("%s goes on saying %s", f.Config.Node, v)
		}
	}
}

// agree checks hosts that have heard of each other.
func (h *fileHosts) agree(log []string) {
	h.t.Helper()
	value := h.nodes[0].value()
	h.says(fmt.Sprint("after ", len(log), " steps"), value)
	for _, f := range h.nodes {
		for _, s := range f.manifestList().Sources {
			data, err := os.ReadFile(s.Path)
			if err != nil || len(s.Objects) == 0 {
				continue
			}
			in := slices.ContainsFunc(strings.Fields(string(data)), func(word string) bool { return strings.Trim(word, `"}{`) == value })
			if state := s.Objects[0].State; state == "Active" && !in {
				h.t.Errorf("%s shows %s as %s, and %s is in force", f.Config.Node, s.Path, state, value)
			}
		}
	}
}
