package scope

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// signal is one of systemd's, as on the wire.
func signal(t *testing.T, order binary.ByteOrder, member string, body ...any) []byte {
	t.Helper()
	msg := dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:      dbus.MakeVariant(managerPath),
		dbus.FieldInterface: dbus.MakeVariant(managerIface),
		dbus.FieldMember:    dbus.MakeVariant(member),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body...)),
	}, Body: body}
	var b bytes.Buffer
	if err := msg.EncodeTo(&b, order); err != nil {
		t.Fatal(err)
	}
	raw := b.Bytes()
	order.PutUint32(raw[8:], 1) // a serial, without which it is no message
	return raw
}

func TestOnlySignalsOfEndedJobsAreDecoded(t *testing.T) {
	long := strings.Repeat("x", 10_000) // longer than the buffer
	little := binary.LittleEndian
	ended := func(unit string) []byte {
		return signal(t, little, "JobRemoved", uint32(7), dbus.ObjectPath("/job/7"), unit, "done")
	}
	sent := bytes.Join([][]byte{
		[]byte("OK 1234\r\n"),
		signal(t, little, "UnitNew", "a.mount", dbus.ObjectPath("/a")),
		ended("a.scope"),
		signal(t, little, "PropertiesChanged", long),
		signal(t, little, "JobNew", "JobRemoved"), // its text is not its name
		ended("b.scope"),
		signal(t, binary.BigEndian, "UnitNew", "c"),
	}, nil)
	systemd, ours := net.Pipe()
	go func() {
		io.ReadFull(systemd, make([]byte, len("AUTH\r\nBEGIN\r\n")))
		systemd.Close()
	}()
	c := newJobSignals(ours)
	c.in.Reset(bytes.NewReader(sent))
	if _, err := c.Write([]byte("AUTH\r\n")); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("OK 1234\r\n"))
	if _, err := io.ReadFull(c, line); err != nil || string(line) != "OK 1234\r\n" {
		t.Fatalf("handshake: %q, %v", line, err)
	}
	if _, err := c.Write([]byte("BEGIN\r\n")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		msg, err := dbus.DecodeMessage(c)
		if err != nil {
			break
		}
		got = append(got, msg.Headers[dbus.FieldMember].Value().(string))
	}
	if want := "JobRemoved JobRemoved UnitNew"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s: the last is of another byte order", got, want)
	}
}

func TestMessageOfAbsurdLengthEndsTheConnection(t *testing.T) {
	raw := signal(t, binary.LittleEndian, "UnitNew", "a")
	binary.LittleEndian.PutUint32(raw[4:], 1<<31)
	c := newJobSignals(nil)
	c.begun = true
	c.in.Reset(bytes.NewReader(raw))
	if _, err := c.Read(make([]byte, 16)); err == nil || err == io.EOF {
		t.Errorf("got %v, want an error about the length", err)
	}
}
