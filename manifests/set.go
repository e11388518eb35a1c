package manifests

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// File is one file of a source and what it contributes.
type File struct {
	Path     string
	Source   Source
	Hash     string    // SHA-256 of the version whose objects are in force, hex; "" without one
	ModTime  time.Time // of that version
	Objects  []Object  // in force
	Problems []Problem // what is wrong with the newest version, or with one of its objects
	Stale    bool      // Objects are the last good version, not what the file holds now
	Ignored  string    // why the file is not read; then only Path and Source are set
}

// Claim is an object that a file puts in force.
type Claim struct {
	Object
	Source   Source
	ModTime  time.Time  // of the version of the file that holds it
	Stale    bool       // the file has newer content that cannot be used
	Shadowed []Position // of the same object in other places, over which this one wins
}

// Set is the state of all sources at one moment. It is a value: nothing that
// happens later changes it.
type Set struct {
	Files     []File    // of all sources, higher precedence first, then by path
	Claims    []Claim   // what is in force, sorted by key; one for each key
	Problems  []Problem // with directories
	Unsettled bool      // a file was being written: scan again soon, no event may come

	mounts []string // directories that are mount points
}

// assemble finds out which file's word counts for each object.
func assemble(files []File) ([]File, []Claim) {
	slices.SortFunc(files, func(a, b File) int {
		return cmp.Or(cmp.Compare(b.Source.Precedence, a.Source.Precedence), strings.Compare(a.Path, b.Path))
	})
	order := make([]int, len(files))
	for i := range order {
		order[i] = i
	}
	// In one source, what a file says counts before what another once said:
	// an object may have moved out of a file that is broken now.
	slices.SortStableFunc(order, func(i, j int) int {
		return cmp.Or(cmp.Compare(files[j].Source.Precedence, files[i].Source.Precedence), compareBool(files[i].Stale, files[j].Stale))
	})
	var claims []Claim
	index := map[Key]int{}
	for _, i := range order {
		f := &files[i]
		for _, o := range f.Objects {
			first, taken := index[o.Key]
			if !taken {
				index[o.Key] = len(claims)
				claims = append(claims, Claim{Object: o, Source: f.Source, ModTime: f.ModTime, Stale: f.Stale})
				continue
			}
			winner := &claims[first]
			winner.Shadowed = append(winner.Shadowed, o.Pos)
			if winner.Source == f.Source && !f.Stale {
				f.Problems = append(slices.Clip(f.Problems), Problem{
					Pos:     o.Pos,
					Message: fmt.Sprintf("%s is already declared at %s, which counts; this one is passed over", nameOf(o.Key), winner.Pos),
				})
			}
		}
	}
	slices.SortFunc(claims, func(a, b Claim) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return files, claims
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// AddProblem notes what the caller finds wrong with one of the set's files,
// whose Problems may be shared and so are copied.
func (s *Set) AddProblem(p Problem) {
	for i := range s.Files {
		if f := &s.Files[i]; f.Path == p.Pos.File {
			f.Problems = append(slices.Clip(f.Problems), p)
		}
	}
}

// AllProblems are those of directories and of files, in the order of Files.
func (s Set) AllProblems() []Problem {
	all := slices.Clone(s.Problems)
	for _, f := range s.Files {
		all = append(all, f.Problems...)
	}
	return all
}

// String lists files, what they put in force and what is wrong, one a line.
func (s Set) String() string {
	var b strings.Builder
	for _, f := range s.Files {
		switch {
		case f.Ignored != "":
			fmt.Fprintf(&b, "%s ignored: %s\n", f.Path, f.Ignored)
		case f.Stale && f.Hash == "":
			fmt.Fprintf(&b, "%s refused, nothing in force\n", f.Path)
		case f.Stale:
			fmt.Fprintf(&b, "%s stale, %d objects of its last good version\n", f.Path, len(f.Objects))
		default:
			fmt.Fprintf(&b, "%s %d objects\n", f.Path, len(f.Objects))
		}
	}
	for _, c := range s.Claims {
		fmt.Fprintf(&b, "claim %s at %s", c.Key, c.Pos)
		for _, p := range c.Shadowed {
			fmt.Fprintf(&b, ", over %s", p)
		}
		b.WriteString("\n")
	}
	for _, p := range s.AllProblems() {
		fmt.Fprintf(&b, "problem %s\n", p.Error())
	}
	return b.String()
}
