package agent

// Retell has the statuses of all pods published once more: something else may
// have been put in the place of what was said of them.
func (a *Agent) Retell() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		w.send(func() {
			if w.decided {
				w.agent.cfg.Publish(w.agent.ctx, w.pod, w.status, false)
			}
		})
	}
}
