package main

import (
	"math"
	"math/rand/v2"
	"time"
)

// Memberlist's settings for a LAN, which Serf and Shoal leave as they are.
const (
	gossipEach     = 200 * time.Millisecond
	gossipNodes    = 3
	retransmitMult = 4
)

// model is when each of so many members hears of a user event, the sender left
// out, without anything of Serf: each that has it tells three others at random at
// each of its ticks, until it was told so often as memberlist's limit says
// (retransmitLimit: 4 * ceil(log10(n+1))). It knows no loss, no probes, which
// carry events as well, and no full exchanges. Cost: O(members), so it reaches
// where whole nodes don't fit. TestTheModelAgreesWithSerf holds it to real Serf.
func model(members int, delay time.Duration, random *rand.Rand) samples {
	limit := retransmitMult * int(math.Ceil(math.Log10(float64(members+1))))
	const step = time.Millisecond
	heard := make([]time.Duration, members) // when, 0: not yet
	left := make([]int, members)
	phase := make([]time.Duration, members)
	for i := range phase {
		phase[i] = time.Duration(random.Int64N(int64(gossipEach/step))) * step
	}
	ticks := make([][]int, gossipEach/step) // members by their phase
	for i, p := range phase {
		ticks[p/step] = append(ticks[p/step], i)
	}
	heard[0], left[0] = 1, limit
	count := 1
	for now := time.Duration(0); count < members && now < time.Minute; now += step {
		for _, i := range ticks[now%gossipEach/step] {
			if heard[i] == 0 || heard[i] > now+1 {
				continue
			}
			for range min(gossipNodes, left[i]) {
				left[i]--
				to := random.IntN(members)
				if to != i && heard[to] == 0 {
					heard[to], left[to] = now+delay, limit
					count++
				}
			}
		}
	}
	var took samples
	for _, at := range heard[1:] {
		if at > 0 {
			took = append(took, at)
		}
	}
	return took
}

// modelled is several events in turn.
func modelled(members int, delay time.Duration, times int, seed uint64) (took samples) {
	random := rand.New(rand.NewPCG(seed, 0))
	for range times {
		took = append(took, model(members, delay, random)...)
	}
	return took
}
