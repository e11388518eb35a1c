package config

import "testing"

func TestHandlersNameAProgram(t *testing.T) {
	c, err := Parse("f", []byte("[runtime.handlers.gvisor]\noci = \"/usr/bin/runsc\"\n"), "host")
	if err != nil || c.Runtime.Handlers["gvisor"].OCI != "/usr/bin/runsc" {
		t.Fatalf("got %+v, %v", c, err)
	}
	_, err = Parse("f", []byte("[runtime.handlers]\nNo_Label = {oci = \"runc\"}\nnone = {}\nrelative = {oci = \"bin/runsc\"}\n"), "host")
	want := `f: runtime.handlers.No_Label = "No_Label": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
f: runtime.handlers.none.oci = "": want "crun", "runc" or an absolute path
f: runtime.handlers.relative.oci = "bin/runsc": want "crun", "runc" or an absolute path`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}
