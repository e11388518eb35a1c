package cure

import (
	"path"
	"strconv"
	"strings"
)

// commands are programs that can't be executed. The words are crun's; runc's
// come second.
var commands = []rule{
	says("executable file `([^`]*)` not found", notFound),
	says(`exec: "((?:[^"\\]|\\.)*)": (?:executable file not found|stat .*no such file)`, notFound),
	says(`open executable: Permission denied|exec: "[^"]*": permission denied`, func(a about, _ []string) string {
		return notExecutable(a)
	}),
	says(`open executable: Operation not permitted|exec: "[^"]*": is a directory`, func(a about, _ []string) string {
		field, program := a.command()
		if program == "" {
			program = a.image() + "'s program"
		}
		return at(field, "%s is a directory: name the program in it", program)
	}),
	says("exec container process (?:\\(missing dynamic library\\?\\) )?`([^`]*)`: No such file or directory", func(a about, m []string) string {
		field, _ := a.command()
		return at(field, "%s is there, but what is to run it is not: does its first line name an interpreter that %s lacks (bash?), "+
			"or end as Windows' lines do (cure: sed -i 's/\\r$//'), or is it linked to a C library that the image lacks?", m[1], a.image())
	}),
	says("exec container process `([^`]*)`: Exec format error", func(a about, m []string) string {
		field, _ := a.command()
		return at(field, "%s is neither a program for this machine nor a script with a first line like #!/bin/sh: add that line, or take an image for this machine", m[1])
	}),
	says("chdir `?([^`:]*)`?: (?:Not a directory|Permission denied|No such file)", func(a about, m []string) string {
		return at(a.field("workingDir"), "%s is no directory that the container's user may enter in %s", m[1], a.image())
	}),
	says(`^no command specified`, func(a about, _ []string) string {
		return at(a.field("command"), "%s names no program to run: write one", a.image())
	}),
	says(`unable to find (user|group) (\S+): no matching entries`, func(a about, m []string) string {
		return at(a.field("securityContext.runAs"+strings.ToUpper(m[1][:1])+m[1][1:]), "give its number: %s has no %s of that name", a.image(), m[1])
	}),
}

// shellWords are what a shell reads and execve(2) does not.
const shellWords = " \t|&;<>$*\"'`"

func notFound(a about, m []string) string {
	field, _ := a.command()
	program := m[1]
	switch {
	case strings.ContainsAny(program, shellWords):
		return at(field, `it is one program's name, and no shell reads it: write command: [sh, -c, %s], or each word as an item of its own`, strconv.Quote(program))
	case strings.Contains(program, "/"):
		return at(field, "there is no such file in %s: correct the path", a.image())
	}
	return at(field, "there is no such program in %s: correct the name, or take an image that has it", a.image())
}

func notExecutable(a about) string {
	field, program := a.command()
	if program == "" {
		return at(field, "%s's program is not executable: chmod +x it where the image is made, or write a command", a.image())
	}
	if m, _ := a.mount(program); m != nil {
		if v, where := a.volume(m.Name); kind(v) != "" {
			return at(where+"."+kind(v)+".defaultMode", "set 0755: %s is not executable", program)
		}
	}
	return at(field, "%s is not executable: chmod +x it where the image is made, or run it by its interpreter: [sh, %s]", path.Clean(program), program)
}
