package config

import "net/netip"

// Metrics is where Prometheus finds them besides the socket.
type Metrics struct {
	// Listen is a loopback address and port, "127.0.0.1:9479"; default: none.
	Listen string `toml:"listen"`
}

func (m *Metrics) validate(bad complain) {
	if m.Listen == "" {
		return
	}
	switch at, err := netip.ParseAddrPort(m.Listen); {
	case err != nil || at.Port() == 0:
		bad("metrics.listen", m.Listen, `want "ADDRESS:PORT", for example "127.0.0.1:9479"`)
	case !at.Addr().Unmap().IsLoopback():
		bad("metrics.listen", m.Listen, `only loopback is allowed, as nobody has to prove who they are: `+
			`want "127.0.0.1:%d", and for other hosts an agent on this one that forwards it`, at.Port())
	}
}
