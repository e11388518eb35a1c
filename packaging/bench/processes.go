package main

import (
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// processes are commands under way, by pod.
type processes struct {
	mu   sync.Mutex
	cmds map[string]*exec.Cmd
}

// background starts a pod's command, which ends by itself or by end.
func (p *processes) background(pod string, args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	return p.run(pod, cmd)
}

// run starts cmd as the pod's command.
func (p *processes) run(pod string, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmds == nil {
		p.cmds = make(map[string]*exec.Cmd)
	}
	p.cmds[pod] = cmd
	return nil
}

func (p *processes) take(pod string) *exec.Cmd {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := p.cmds[pod]
	delete(p.cmds, pod)
	return cmd
}

// wait returns when the pod's command has ended.
func (p *processes) wait(pod string) error {
	if cmd := p.take(pod); cmd != nil {
		return cmd.Wait()
	}
	return nil
}

// end ends the pod's command, however it takes that.
func (p *processes) end(pod string) {
	if cmd := p.take(pod); cmd != nil {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()
	}
}
