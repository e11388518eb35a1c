package journal

import (
	"bytes"
	"regexp"
	"testing"
)

func TestLinesAreStampedOnce(t *testing.T) {
	const lines = "level=INFO msg=hello g.time=theirs\n"
	for _, tt := range []struct {
		stream  string
		verbose bool
		want    string
	}{
		{"8:1234", false, "^" + lines + "$"},
		{"8:1234", true, "^level=DEBUG msg=more\n" + lines + "$"},
		{"", false, `^time=20\S+ ` + lines + "$"},
	} {
		t.Setenv("JOURNAL_STREAM", tt.stream)
		var b bytes.Buffer
		log := Logger(&b, tt.verbose)
		log.Debug("more")
		log.WithGroup("g").Info("hello", "time", "theirs")
		if got := b.String(); !regexp.MustCompile(tt.want).MatchString(got) {
			t.Errorf("stream %q, verbose %t: got %q, want %s", tt.stream, tt.verbose, got, tt.want)
		}
	}
}
