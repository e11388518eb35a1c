package bed

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// Trouble is that packets from some hosts to others get lost, in this direction alone.
type Trouble struct {
	From, To []string
	Loss     int // of 100 packets; 100: a cut one way
}

// String is "n1,n2>n3:20".
func (t Trouble) String() string {
	return fmt.Sprintf("%s>%s:%d", strings.Join(t.From, ","), strings.Join(t.To, ","), t.Loss)
}

func parseTrouble(text string) (Trouble, error) {
	from, rest, okTo := strings.Cut(text, ">")
	to, percent, okLoss := strings.Cut(rest, ":")
	loss, err := strconv.Atoi(percent)
	if !okTo || !okLoss || err != nil || loss < 1 || loss > 100 {
		return Trouble{}, fmt.Errorf("trouble %q: want HOST,...>HOST,...:PERCENT, of 1 to 100", text)
	}
	return Trouble{From: strings.Split(from, ","), To: strings.Split(to, ","), Loss: loss}, nil
}

// Disturb makes exactly these troubles so, in place of those before; none ends them all. Cuts are apart from this, and
// Heal leaves troubles alone. The bed's own address stays reachable for everyone.
func (b *Bed) Disturb(ctx context.Context, troubles ...Trouble) error {
	list := []string{}
	for _, t := range troubles {
		list = append(list, t.String())
	}
	return b.control.post(ctx, "/disturb", list)
}

func (w *world) disturb(texts []string) error {
	var troubles []Trouble
	for _, text := range texts {
		t, err := parseTrouble(text)
		if err != nil {
			return err
		}
		for _, name := range append(t.From[:len(t.From):len(t.From)], t.To...) {
			if _, err := w.machine(name); err != nil {
				return err
			}
		}
		troubles = append(troubles, t)
	}
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(troubleRules(troubles))
	return runTool(nft)
}

// troubleRules is the ruleset, for nft -f, that loses packets.
func troubleRules(troubles []Trouble) string {
	rules := "table bridge trouble\ndelete table bridge trouble\n"
	if len(troubles) == 0 {
		return rules
	}
	rules += "table bridge trouble {\n\tchain forward {\n\t\ttype filter hook forward priority 1\n"
	for _, t := range troubles {
		rules += fmt.Sprintf("\t\tiifname { %s } oifname { %s }", ports(t.From), ports(t.To))
		if t.Loss < 100 {
			rules += fmt.Sprintf(" numgen random mod 100 < %d", t.Loss)
		}
		rules += " drop\n"
	}
	return rules + "\t}\n}\n"
}

func ports(hosts []string) string {
	var quoted []string
	for _, h := range hosts {
		quoted = append(quoted, strconv.Quote(port(h)))
	}
	return strings.Join(quoted, ", ")
}
