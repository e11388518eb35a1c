package conformance

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// TestMistakes makes the mistakes that people make: testdata/mistakes has one file for each, which begins with what
// was done and has what Shoal says of it.
func TestMistakes(t *testing.T) {
	all, err := stories("mistakes")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no stories")
	}
	onHost(t)
	for name, archive := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tell(t, name, archive)
		})
	}
}

// TestMistakesTableIsTrue holds docs/mistakes.md to the stories that TestMistakes tells. Each says which field is at
// fault, or where to look: a bare prefix of a message would not be an answer.
func TestMistakesTableIsTrue(t *testing.T) {
	all, err := stories("mistakes")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		mistake := strings.Join(strings.Fields(string(all[name].Comment)), " ")
		said, where := answer(all[name])
		if mistake == "" || len(strings.ReplaceAll(said, "...", "")) < 40 {
			t.Errorf("%s: the mistake is %q and the answer %q", name, mistake, said)
		}
		want = append(want, "| "+cell(mistake)+" | "+cell(said)+" | "+where+" | `"+name+"` |")
	}
	if least := 40; len(want) < least {
		t.Errorf("%d mistakes, want %d", len(want), least)
	}
	holdTable(t, "docs/mistakes.md", "| mistake | what Shoal says | where | story |\n|---|---|---|---|", want)
}

// answer is the last thing that Shoal is to say in a story, and where.
func answer(archive *txtar.Archive) (said, where string) {
	script := ""
	for _, section := range archive.Files {
		data := string(section.Data)
		switch section.Name {
		case "validate":
			said, where = strings.TrimSpace(data), "`shoal validate`, `shoal manifests`"
		case "host":
			script = data
		case "says":
			if strings.Contains(script, "shoal why") {
				said, where = strings.TrimSpace(data), "`shoal why`"
			}
			if strings.Contains(script, "shoal manifests") {
				said, where = strings.TrimSpace(data), "`shoal manifests`"
			}
		case "want":
			for _, f := range parseFacts(data) {
				_, reason, event := strings.Cut(f.key, "event ")
				switch {
				case event:
					said, where = f.value, "event "+reason
				case strings.HasSuffix(f.key, " waits"):
					said, where = f.value, "the container's state"
				}
			}
		}
	}
	return said, where
}

// cell makes a text fit into a table.
func cell(text string) string {
	text = strings.NewReplacer("|", `\|`, "<", "&lt;", "...", "…", "`", "'").Replace(text)
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "<br>")
}
