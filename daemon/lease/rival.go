package lease

import (
	"fmt"
	"strconv"
	"strings"
)

// Rival is what is known of a witnesses' log.
type Rival struct {
	// Log is its name: ROOT, or ROOT-GENERATION-RANDOM once a person has recovered
	// it. Roots that begin later are larger.
	Log   string
	Seats int // how many witnesses it has
}

// Meeting is what becomes of a witnesses' log that meets another one.
type Meeting int

// What Meet answers.
const (
	Stay  Meeting = iota // the other one gives way
	Give                 // this one gives way, by Yield
	Past                 // this one is over: a person recovered what the other one is
	Apart                // both have several witnesses: neither can give way
)

// Meet says which of two logs gives way to the other. One that was recovered
// stands for what it was before: witnesses of that one who come back have nothing
// to say. Else one of a single witness gives way, of two such ones that which
// began later. Both sides come to the same answer.
func Meet(mine, theirs Rival) Meeting {
	mineRoot, mineGeneration := generation(mine.Log)
	root, gen := generation(theirs.Log)
	switch {
	case mineRoot == root && gen > mineGeneration:
		return Past
	case mineRoot == root && gen < mineGeneration:
		return Stay
	case mine.Seats > 1 && theirs.Seats > 1:
		return Apart
	case mine.Seats > 1:
		return Stay
	case theirs.Seats > 1 || theirs.Log < mine.Log:
		return Give
	}
	return Stay
}

// generation is how often a log was recovered.
func generation(log string) (root string, n int) {
	parts := strings.Split(log, "-")
	if len(parts) != 3 {
		return log, 0
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		return log, 0
	}
	return parts[0], n
}

// Recovered is the name of a log after its recovery. Random tells two recoveries
// of it apart.
func Recovered(log, random string) string {
	root, n := generation(log)
	return fmt.Sprintf("%s-%d-%s", root, n+1, random)
}
