package footprint

import (
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// A program linked statically, one whose relocations were applied, and a
// library: as smaps has them, without the lines that nobody reads.
const smaps = `00400000-02400000 r-xp 00000000 fe:00 77                                 /usr/sbin/shoald (deleted)
Size:              32768 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
02400000-03400000 r--p 02000000 fe:00 77                                 /usr/sbin/shoald (deleted)
Anonymous:             0 kB
03400000-03500000 r--p 03000000 fe:00 77                                 /usr/sbin/shoald (deleted)
Anonymous:            64 kB
03500000-03600000 rw-p 03100000 fe:00 77                                 /usr/sbin/shoald (deleted)
Anonymous:             0 kB
03600000-03700000 rw-p 00000000 00:00 0                                  [heap]
Anonymous:             8 kB
c000000000-c000400000 rw-p 00000000 00:00 0 
Anonymous:          4096 kB
7f0000000000-7f0000100000 r--s 00000000 fe:00 78                         /var/lib/shoal/store.db
Anonymous:             0 kB
7f0000100000-7f0000200000 r-xp 00000000 fe:01 77                         /usr/lib/libc.so.6
Anonymous:             0 kB
`

func TestOnlyUnchangedPagesOfTheProgramAreLetGo(t *testing.T) {
	got, err := programOnly(strings.NewReader(smaps), 0x401000)
	want := []addresses{{0x400000, 0x2400000}, {0x2400000, 0x3400000}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %x, %v, want %x", got, err, want)
	}
}

func TestNothingIsLetGoWhereTheProgramIsNotMapped(t *testing.T) {
	got, err := programOnly(strings.NewReader(smaps), 0x3600000) // anonymous memory
	if err != nil || len(got) != 0 {
		t.Errorf("got %x, %v, want nothing", got, err)
	}
}

func TestMappingWithoutACountOfItsChangesIsKept(t *testing.T) {
	const old = "00400000-02400000 r-xp 00000000 fe:00 77 /usr/sbin/shoald\nSize: 32768 kB\n"
	got, err := programOnly(strings.NewReader(old), 0x401000)
	if err != nil || len(got) != 0 {
		t.Errorf("got %x, %v, want nothing", got, err)
	}
}

func TestShrinkUnmapsTheProgramWhichGoesOn(t *testing.T) {
	before := residentOfFiles(t)
	if err := Shrink(); err != nil {
		t.Fatal(err)
	}
	if after := residentOfFiles(t); after >= before {
		t.Errorf("%d kB of files are in memory, as many as before: %d", after, before)
	}
}

// residentOfFiles is how much of this process's memory files are, in kilobytes.
func residentOfFiles(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] == "RssFile:" {
			kB, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return kB
		}
	}
	t.Fatal("no RssFile in /proc/self/status")
	return 0
}
