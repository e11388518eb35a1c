// The program that every contender starts: it writes when it began (CLOCK_MONOTONIC, ns) to the file given to it, and
// then waits for SIGTERM. As PID 1 of a container it gets only signals that it asked for.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static void end(int signal) { _exit(0); }

int main(int argc, char **argv) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	signal(SIGTERM, end);
	char text[32];
	int n = snprintf(text, sizeof text, "%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
	int fd = argc == 2 ? open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0644) : -1;
	if (fd < 0 || write(fd, text, n) != n || close(fd) != 0)
		return 1;
	for (;;)
		pause();
}
