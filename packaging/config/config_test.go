// Package config_test checks the configuration file that the package installs.
package config_test

import (
	"encoding"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/daemon/config"
)

// setting is a line that stands for a setting, behind its comment sign.
var setting = regexp.MustCompile(`^# (\[+[\w."]+\]+|[\w."/]+ = .+)$`)

// uncommented is the file with its settings in force. Those that are examples,
// by a comment that tells their default otherwise, are left out on demand; so
// are the tables that have no defaults at all.
func uncommented(t *testing.T, examples bool) string {
	t.Helper()
	text, err := os.ReadFile("shoal.toml")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	table, comment := "", ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		m := setting.FindStringSubmatch(line)
		switch {
		case m == nil && line != "" && !strings.HasPrefix(line, "#"):
			t.Errorf("not a comment: %s", line)
		case m == nil:
			comment += line
			continue
		case m[1][0] == '[':
			table = m[1]
		}
		example := strings.Contains(comment, "Default") || table == "[labels]" || strings.HasPrefix(table, "[registries.") ||
			strings.HasPrefix(table, "[eviction.") && table != "[eviction.hard]"
		if examples || !example {
			b.WriteString(m[1])
		}
		b.WriteString("\n")
		comment = ""
	}
	return b.String()
}

func TestTheFileAsInstalledChangesNothing(t *testing.T) {
	got, err := config.Read("shoal.toml", true)
	if err != nil {
		t.Fatal(err)
	}
	want, err := config.Read("/nonexistent", false)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestTheFileShowsTheDefaults(t *testing.T) {
	got, err := config.Parse("shoal.toml", []byte(uncommented(t, false)), "host")
	if err != nil {
		t.Fatal(err)
	}
	want, err := config.Parse("", nil, "host")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestTheFileNamesEverySetting(t *testing.T) {
	text := uncommented(t, true)
	if _, err := config.Parse("shoal.toml", []byte(text), "host"); err != nil {
		t.Errorf("%v, in:\n%s", err, text)
	}
	for _, key := range keys(reflect.TypeFor[config.Config]()) {
		if !regexp.MustCompile(`(?m)^(` + key + ` = |\[([a-z_]+\.)?` + key + `[.\]])`).MatchString(text) {
			t.Errorf("%s is missing", key)
		}
	}
}

// keys are the settings' names, without their tables'.
func keys(t reflect.Type) []string {
	var list []string
	for f := range t.Fields() {
		name := f.Tag.Get("toml")
		if name == "-" {
			continue
		}
		if !f.Anonymous {
			list = append(list, name)
		}
		switch elem := f.Type; {
		case reflect.PointerTo(elem).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()): // one word
		case elem.Kind() == reflect.Struct:
			list = append(list, keys(elem)...)
		case elem.Kind() == reflect.Map && elem.Elem().Kind() == reflect.Struct:
			list = append(list, keys(elem.Elem())...)
		}
	}
	return list
}
