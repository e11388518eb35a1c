package bed

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
)

// command is the import path of the program that supervises beds and is the agent in their hosts.
const command = "github.com/shoal-project/shoal/packaging/testbed"

// Program is the path of a static build of the testbed command: $SHOAL_TESTBED_PROGRAM, or this program if it is one,
// or one built with the go command from the module that the current directory is in.
func Program(ctx context.Context) (string, error) {
	if path := os.Getenv("SHOAL_TESTBED_PROGRAM"); path != "" {
		return path, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Path == command && static(self) {
		return self, nil
	}
	return build(ctx)
}

// static tells whether a program needs no interpreter, and so runs in a host with other libraries.
func static(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false
		}
	}
	return true
}

func build(ctx context.Context) (string, error) {
	dir := filepath.Join(CacheDir(), "bin")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	lock, err := lockFile(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	path := filepath.Join(dir, "testbed")
	// go build leaves a file alone that is what it would write; a bed that runs keeps its own link to the old one.
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", path, command)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := runTool(cmd); err != nil {
		return "", fmt.Errorf("build the testbed command: %w", err)
	}
	return path, nil
}
