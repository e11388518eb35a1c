package stats

// Amount is a number that was measured. The zero value is unknown: this host
// does not tell, or there is nothing to measure yet.
type Amount struct {
	n     uint64
	known bool
}

// Known is an amount that was measured.
func Known(n uint64) Amount { return Amount{n, true} }

// Get is the number and whether it is known.
func (a Amount) Get() (n uint64, known bool) { return a.n, a.known }

// Or is the number, or instead where it is unknown.
func (a Amount) Or(instead uint64) uint64 {
	if !a.known {
		return instead
	}
	return a.n
}

// Pointer is the number as the kubelet's types have it: nil where unknown.
func (a Amount) Pointer() *uint64 {
	if !a.known {
		return nil
	}
	return &a.n
}

// Plus is the sum; unknown where either is.
func (a Amount) Plus(b Amount) Amount {
	if !a.known || !b.known {
		return Amount{}
	}
	return Known(a.n + b.n)
}

// Minus is the difference, not less than 0; unknown where either is.
func (a Amount) Minus(b Amount) Amount {
	if !a.known || !b.known {
		return Amount{}
	}
	return Known(a.n - min(a.n, b.n))
}

// times is the amount in a smaller unit.
func (a Amount) times(n uint64) Amount { return Amount{a.n * n, a.known} }
