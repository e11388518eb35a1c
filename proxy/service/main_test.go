package service

import (
	"flag"
	"runtime"
	"testing"

	"github.com/shoal-project/shoal/proxy/nettest"
)

var update = flag.Bool("update", false, "rewrite golden files")

func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) { nettest.Main(m) }
