// crun lifts its limit on locked memory before it loads a device filter, and gives up where it may not: in a light host
// on a machine without CAP_SYS_RESOURCE. Linux has not counted filters against that limit since 5.11, so the refusal is
// ignored, for every contender alike (ld.so.preload).
#include <errno.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int setrlimit64(__rlimit_resource_t what, const struct rlimit64 *limit) {
	if (syscall(SYS_prlimit64, 0, what, limit, 0) == 0)
		return 0;
	if (what == RLIMIT_MEMLOCK && errno == EPERM)
		return 0;
	return -1;
}

int setrlimit(__rlimit_resource_t what, const struct rlimit *limit) {
	return setrlimit64(what, (const struct rlimit64 *)limit);
}
