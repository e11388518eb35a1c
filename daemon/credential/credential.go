// Package credential finds the node's own logins for image registries: those
// that every pod of the host may use, beside its imagePullSecrets.
//
// They come from Docker's config.json (with credHelpers and credsStore) and
// from the kubelet's credential provider plugins (KEP-2133). Files are read
// again for each pull: a login that was put down works at once. Secrets travel
// by stdin and stdout only, and are in no log.
package credential

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Login is one way to log in at a registry.
type Login struct {
	Username, Password string
	IdentityToken      string // OAuth2 refresh token, instead of a password
}

// Config says where logins are kept.
type Config struct {
	Files     []string // Docker's config.json; those that are missing count as empty
	Providers string   // a kubelet's CredentialProviderConfig; "": none
	BinDir    string   // holds the plugins that Providers names
}

// Source finds logins. Its methods may be called concurrently.
type Source struct {
	files   []string
	plugins []*plugin
	now     func() time.Time
	log     *slog.Logger

	mu     sync.Mutex
	warned map[string]bool // what was said once
}

// Open reads the configuration of plugins; an error names the file, the
// provider and the field.
func Open(c Config, now func() time.Time, log *slog.Logger) (*Source, error) {
	s := &Source{files: c.Files, now: now, log: log, warned: make(map[string]bool)}
	if c.Providers == "" {
		return s, nil
	}
	var err error
	s.plugins, err = readProviders(c.Providers, c.BinDir)
	return s, err
}

// Find lists the logins for a repository (HOST/PATH, without tag), in the order
// to try them: files first, then plugins. What can't be read, or fails, is said
// in the log and left out: the image may be public.
func (s *Source) Find(ctx context.Context, repo string) []Login {
	var all []Login
	for _, file := range s.files {
		found, err := s.fromFile(ctx, file, repo)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("can't use a file of registry logins", "file", file, "err", err)
		}
		all = append(all, found...)
	}
	for _, p := range s.plugins {
		found, err := p.find(ctx, repo, s.now())
		if err != nil && ctx.Err() == nil {
			s.log.Warn("a credential provider failed", "name", p.config.Name, "image", repo, "err", err)
		}
		all = append(all, found...)
	}
	return all
}

// warnIfReadable says once of each file that others on the host can read it.
func (s *Source) warnIfReadable(file string, info os.FileInfo) {
	if info.Mode().Perm()&0o004 == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.warned[file] {
		s.warned[file] = true
		s.log.Warn("everybody on this host can read these registry logins: chmod 600", "file", file)
	}
}
