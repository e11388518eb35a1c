// What is probed: it answers HTTP requests on a port, one connection after the other, and is small, for there are many.
// Its second argument only tells one of them from another. Without arguments it succeeds at once: that is the exec probe.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static void end(int signal) { _exit(0); }

int main(int argc, char **argv) {
	if (argc < 2)
		return 0;
	signal(SIGTERM, end);
	signal(SIGPIPE, SIG_IGN);
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
	int on = 1, s = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) != 0 || listen(s, 64) != 0)
		return 1;
	for (;;) {
		int c = accept(s, 0, 0);
		if (c < 0)
			continue;
		struct timeval patience = {.tv_sec = 1};
		setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		char request[4096];
		if (read(c, request, sizeof request) > 0)
			(void)!write(c, answer, sizeof answer - 1);
		close(c);
	}
}
