package config

// The values of Scheduler.Scoring, as in the kube-scheduler's
// NodeResourcesFitArgs.
const (
	LeastAllocated = "LeastAllocated"
	MostAllocated  = "MostAllocated"
)

// Scheduler is how this node finds a place for the pods that it decides on.
type Scheduler struct {
	// Scoring is "LeastAllocated" (default), which spreads pods over the nodes, or
	// "MostAllocated", which fills a node before the next one.
	Scoring string `toml:"scoring"`
}

func (s *Scheduler) setDefaults() {
	if s.Scoring == "" {
		s.Scoring = LeastAllocated
	}
}

func (s *Scheduler) validate(bad complain) {
	if s.Scoring != LeastAllocated && s.Scoring != MostAllocated {
		bad("scheduler.scoring", s.Scoring, `want "LeastAllocated", which spreads pods, or "MostAllocated", which packs them`)
	}
}
