package scope

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	v1helper "k8s.io/kubernetes/pkg/apis/core/v1/helper"
)

// HugePageSizes lists the sizes of huge pages that this machine's kernel has,
// smallest first, written as in "2MB" and "1GB". A kernel without is no error.
func HugePageSizes() ([]string, error) {
	entries, err := os.ReadDir("/sys/kernel/mm/hugepages")
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read huge page sizes: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return hugePageSizes(names)
}

// hugePageSizes reads the kernel's names, such as "hugepages-2048kB".
func hugePageSizes(names []string) ([]string, error) {
	var kib []int64
	for _, name := range names {
		size, ok := strings.CutPrefix(strings.TrimSuffix(name, "kB"), "hugepages-")
		n, err := strconv.ParseInt(size, 10, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("unknown name of a huge page size: %q", name)
		}
		kib = append(kib, n)
	}
	slices.Sort(kib)
	var sizes []string
	for _, n := range kib {
		size, err := v1helper.HugePageUnitSizeFromByteSize(n << 10)
		if err != nil {
			return nil, err
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
}
