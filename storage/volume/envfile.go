package volume

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/kubernetes/pkg/kubelet/util/env"
)

// maxEnvFile is how many bytes a file of variables may have: what a ConfigMap may. The kubelet has no limit; a container
// could have it read a file as large as its disk.
const maxEnvFile = 1 << 20

// EnvFile is a variable of file name in the volume vol, "" when the file does not set it or sets it to nothing; the
// kubelet does not tell them apart either. The file has the form of KEP-3721: NAME='value'. It may be a link, which
// never leads out of the volume. An error is fs.ErrNotExist when there is no such file.
//
// Containers write the file, so nothing in it is trusted: what is no plain file is not opened, for a pipe would never
// end and a device might do anything.
func EnvFile(vol Mounted, name, key string) (string, error) {
	text, err := readEnvFile(vol.Path, name)
	if err != nil {
		return "", fmt.Errorf("couldn't parse env file: %w", err)
	}
	// The kubelet's parser wants a path, and what was read and measured must be what it sees.
	fd, err := unix.MemfdCreate("env", unix.MFD_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "env")
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return "", err
	}
	path := descriptor(f)
	value, err := env.ParseEnv(path, key)
	if err != nil {
		return "", fmt.Errorf("couldn't parse env file: %s: %s", name, strings.ReplaceAll(err.Error(), path, name))
	}
	return value, nil
}

func readEnvFile(base, name string) ([]byte, error) {
	place, err := openat2(base, name, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	var of *os.PathError
	if errors.As(err, &of) {
		return nil, fmt.Errorf("%s: %w", name, of.Err) // the host's path means nothing to its reader
	}
	if err != nil {
		return nil, err
	}
	defer place.Close()
	info, err := place.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no plain file", name)
	}
	f, err := os.Open(descriptor(place))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEnvFile+1))
	if err == nil && len(text) > maxEnvFile {
		err = fmt.Errorf("%s is larger than %d bytes, the most that a file of variables may have", name, maxEnvFile)
	}
	return text, err
}

// descriptor is a path that leads to what f has open, whatever became of its name.
func descriptor(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
