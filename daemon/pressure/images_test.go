package pressure

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return t0.Add(-d) }

func TestImagesGoInTheOrderOfTheirLastUseWhenTheDiskIsFull(t *testing.T) {
	old := func(id string, used time.Duration) Image {
		return Image{ID: id, Size: 10, Added: ago(24 * time.Hour), LastUsed: ago(used)}
	}
	inUse, pinned, fresh, justUsed := old("running", 9*time.Hour), old("file", 9*time.Hour), old("fresh", 9*time.Hour), old("just-used", time.Minute)
	inUse.InUse, pinned.Pinned, fresh.Added = true, true, ago(119*time.Second)
	images := []Image{old("b", time.Hour), inUse, old("a", 2*time.Hour), pinned, fresh, justUsed, old("c", 2*time.Minute)}
	policy := ImagePolicy{HighPercent: 85, LowPercent: 80, MinAge: 2 * time.Minute}
	for _, test := range []struct {
		name   string
		disk   Disk
		policy ImagePolicy
		since  time.Duration
		want   string
	}{
		{"below the high threshold nothing goes", Disk{1000, 160}, policy, 0, "[] [] 0 84%"},
		{"at it down to the low one", Disk{1000, 150}, policy, 0, "[] [a b c] 50 85%"},
		{"more available than there is", Disk{1000, 2000}, policy, 0, "[] [] 0 0%"},
		{"a disk of unknown size frees nothing", Disk{}, policy, 0, "[] [] 0 0%"},
		{"images of a great age go from an empty disk", Disk{1000, 900}, ImagePolicy{85, 80, 2 * time.Minute, 90 * time.Minute}, 2 * time.Hour, "[a] [] 0 10%"},
		{"but not before the daemon has watched that long", Disk{1000, 900}, ImagePolicy{85, 80, 2 * time.Minute, 90 * time.Minute}, 90 * time.Minute, "[] [] 0 10%"},
		{"old ones are not counted twice", Disk{1000, 100}, ImagePolicy{85, 80, 2 * time.Minute, 90 * time.Minute}, 2 * time.Hour, "[a] [b c] 100 90%"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := Images(images, test.disk, test.policy, ago(test.since), t0)
			if got := fmt.Sprintf("%v %v %d %d%%", p.Old, p.Candidates, p.Free, p.Percent); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
	if got, want := strings.Join(UnusedImages(images, policy, t0), " "), "a b c"; got != want {
		t.Errorf("under pressure %s go, want %s", got, want)
	}
}

func TestBytesAreSpelledAsTheKubeletSpellsThem(t *testing.T) {
	for n, want := range map[int64]string{1023: "1023 B", 1024: "1.0 KiB", 1536 << 10: "1.5 MiB", 20 << 30: "20.0 GiB", 3000 << 40: "3000.0 TiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
