package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Round is what is done to a cluster in one stretch, after which it is left alone and looked at.
type Round struct {
	Number int
	Gentle bool // nothing that may move or restart a pod
	Steps  []Step
}

// Step is one fault, or one thing that somebody asks of the cluster.
type Step struct {
	At, For time.Duration // since the round began; how long it lasts, if it does
	Do      Verb
	On      []string // hosts
	Against []string // hosts: the other end, of what is done to the network
	Percent int      // of packets that are lost
	Object  string   // the name of an object
	Value   string   // what it is to say from then on
}

// Verb is a kind of step.
type Verb string

const (
	Cut           Verb = "cut"          // On from Against
	Lose          Verb = "lose packets" // On to Against, not the other way
	Freeze        Verb = "freeze shoald"
	Kill          Verb = "kill -9 shoald"
	KillTwo       Verb = "kill -9 shoald, and again as it starts"
	Restart       Verb = "restart shoald"
	Off           Verb = "cut the power"
	Forget        Verb = "remove the store"
	KillConmon    Verb = "kill -9 a conmon"
	KillPause     Verb = "kill -9 a pause"
	KillContainer Verb = "kill -9 a container"
	StopScope     Verb = "stop a scope"
	CrashLoop     Verb = "kill -9 each shoald"
	KillLease     Verb = "kill -9 the lease process"
	FreezeLease   Verb = "freeze the lease process"
	SetClock      Verb = "set the clock" // of shoald, ahead by Value seconds

	Write      Verb = "write a config map"
	Remove     Verb = "delete a config map"
	Scale      Verb = "scale a deployment"
	Roll       Verb = "roll a deployment"
	Evict      Verb = "delete a pod"
	EditAll    Verb = "edit a file on all hosts"
	EditOne    Verb = "edit a file on one host"
	RemoveFile Verb = "remove a file"
)

// String is one line: it is how a plan is printed and compared.
func (s Step) String() string {
	text := fmt.Sprintf("%5.1fs %s", s.At.Seconds(), s.Do)
	for _, more := range []string{s.Object, s.Value} {
		if more != "" {
			text += " " + more
		}
	}
	text += " on " + strings.Join(s.On, ",")
	if len(s.Against) > 0 {
		text += fmt.Sprintf(" to %s, %d %%,", strings.Join(s.Against, ","), s.Percent)
	}
	if s.For > 0 {
		text += fmt.Sprintf(" for %.1fs", s.For.Seconds())
	}
	return text
}

// String is the plan, one step a line.
func (r Round) String() string {
	kind := "rough"
	if r.Gentle {
		kind = "gentle"
	}
	text := fmt.Sprintf("round %d, %s\n", r.Number, kind)
	for _, s := range r.Steps {
		text += s.String() + "\n"
	}
	return text
}

// What the load is made of. Files and writes of the API keep apart, so that it is known what each object has to say.
var (
	registers   = []string{"reg-1", "reg-2", "reg-3", "reg-4"} // config maps
	everywhere  = []string{"web", "agent", "ledger"}           // files that are the same on all hosts
	somewhere   = []string{"solo-1", "solo-2", "solo-3", "solo-4"}
	scaledByAPI = "scaled"
	rolledByAPI = "rolled"
)

// Draw plans a round. The same seed, number and hosts are the same round. Every third one is gentle, the first of all is.
func Draw(seed uint64, number int, hosts []string) Round {
	d := draw{rand.New(rand.NewPCG(seed, uint64(number))), hosts, number, 0}
	r := Round{Number: number, Gentle: number%3 == 0}
	if r.Gentle {
		r.Steps = d.gentle()
	} else {
		r.Steps = d.rough()
	}
	slices.SortStableFunc(r.Steps, func(a, b Step) int { return int(a.At - b.At) })
	return r
}

type draw struct {
	*rand.Rand
	hosts  []string
	number int
	values int
}

// gentle is loss of up to 20 % on all links, or clocks that are set by up to a day and back, or one shoald after the other that
// stands still for up to 5 s. Nothing moves for it. Or it is a shoald that crashes again and again: for that no exclusive pod moves.
func (d *draw) gentle() []Step {
	const length = 12 * time.Second
	var steps []Step
	switch d.IntN(4) {
	case 3:
		steps = append(steps, Step{At: d.between(0, 2*time.Second), Do: CrashLoop, On: d.host(), For: d.between(3*time.Second, length-2*time.Second)})
	case 0:
		steps = append(steps, Step{Do: Lose, On: d.hosts, Against: d.hosts, Percent: 5 + d.IntN(16), For: length})
	case 1:
		for range 3 {
			ahead := []int{1, 30, 3600, 24 * 3600}[d.IntN(4)] * (1 - 2*d.IntN(2))
			steps = append(steps, Step{At: d.between(0, length/2), Do: SetClock, On: d.host(), Value: fmt.Sprint(ahead), For: d.between(time.Second, length/2)})
		}
	default:
		for at := time.Duration(0); at < length-5*time.Second; {
			s := Step{At: at, Do: Freeze, On: d.host(), For: d.between(time.Second, 4900*time.Millisecond)}
			steps = append(steps, s)
			at += s.For + d.between(200*time.Millisecond, 2*time.Second)
		}
	}
	for range 4 {
		steps = append(steps, d.register(d.between(0, length)))
	}
	return steps
}

// rough is everything that may happen.
func (d *draw) rough() []Step {
	const length = 15 * time.Second
	var steps []Step
	for range 3 + d.IntN(4) {
		steps = append(steps, d.fault(d.between(0, length)))
	}
	for range 8 + d.IntN(8) {
		steps = append(steps, d.load(d.between(0, length)))
	}
	return steps
}

func (d *draw) fault(at time.Duration) Step {
	s := Step{At: at, On: d.host(), For: d.between(time.Second, 10*time.Second)}
	some, rest := d.halves()
	switch d.IntN(20) {
	case 15:
		s.Do, s.For = KillLease, 0
	case 16:
		s.Do = FreezeLease
	case 0, 1:
		s.Do, s.On, s.Against, s.Percent = Cut, some, rest, 100
	case 2:
		s.Do, s.On, s.Against, s.Percent = Lose, some, rest, 100
	case 3:
		s.Do, s.On, s.Against, s.Percent = Lose, rest, some, 100
	case 4:
		s.Do, s.On, s.Against, s.Percent = Lose, d.hosts, d.hosts, 10+d.IntN(40)
	case 5, 6:
		s.Do = Freeze
	case 7, 8:
		s.Do, s.For = Kill, 0
	case 9:
		s.Do, s.For = KillTwo, 0
	case 10:
		s.Do, s.For = Restart, 0
	case 11, 12:
		s.Do = Off
	case 13:
		s.Do, s.On = Off, some
		if d.IntN(3) == 0 {
			s.On = d.hosts
		}
	case 14:
		s.Do, s.For = Forget, 0
	default:
		s.Do, s.For = []Verb{KillConmon, KillPause, KillContainer, StopScope}[d.IntN(4)], 0
	}
	return s
}

func (d *draw) load(at time.Duration) Step {
	s := Step{At: at, On: d.host()}
	switch d.IntN(10) {
	case 0, 1, 2:
		return d.register(at)
	case 3:
		s.Do, s.Object, s.Value = Scale, scaledByAPI, fmt.Sprint(1+d.IntN(6))
	case 4:
		s.Do, s.Object, s.Value = Roll, rolledByAPI, d.value()
	case 5:
		s.Do, s.Object = Evict, []string{"web", scaledByAPI, rolledByAPI, "agent", "ledger"}[d.IntN(5)]
	case 6:
		s.Do, s.On, s.Object, s.Value = EditAll, d.shuffled(), everywhere[d.IntN(len(everywhere))], d.value()
	case 7, 8:
		s.Do, s.Object, s.Value = EditOne, somewhere[d.IntN(len(somewhere))], d.value()
	default:
		s.Do, s.On, s.Object = RemoveFile, d.shuffled(), somewhere[d.IntN(len(somewhere))]
	}
	return s
}

func (d *draw) register(at time.Duration) Step {
	s := Step{At: at, Do: Write, On: d.host(), Object: registers[d.IntN(len(registers))], Value: d.value()}
	if d.IntN(5) == 0 {
		s.Do, s.Value = Remove, ""
	}
	return s
}

// value is one that nothing else says.
func (d *draw) value() string {
	d.values++
	return fmt.Sprintf("r%d-%d", d.number, d.values)
}

func (d *draw) between(least, most time.Duration) time.Duration {
	return (least + time.Duration(d.Int64N(int64(most-least)))).Round(100 * time.Millisecond)
}

func (d *draw) host() []string { return []string{d.hosts[d.IntN(len(d.hosts))]} }

func (d *draw) shuffled() []string {
	list := slices.Clone(d.hosts)
	d.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// halves are the hosts in two groups, of which neither is empty; the first is the smaller one or as large.
func (d *draw) halves() (some, rest []string) {
	list := d.shuffled()
	n := 1 + d.IntN(max(1, len(list)/2))
	some, rest = list[:n], list[n:]
	slices.Sort(some)
	slices.Sort(rest)
	return some, rest
}
