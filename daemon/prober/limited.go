package prober

import "sync"

// limited keeps the beginning of what is written to it and swallows the rest.
// A command's two streams may write at once.
type limited struct {
	most int

	mu   sync.Mutex
	kept []byte
}

func (l *limited) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, b[:min(len(b), l.most-len(l.kept))]...)
	return len(b), nil
}

func (l *limited) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.kept)
}
