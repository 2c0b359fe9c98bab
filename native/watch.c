/* watch.c: poll(2) with a fixed table. */
#include "watch.h"

#include <poll.h>

enum { MOST = 48 };

static struct pollfd fds[MOST];
static nfds_t count;

void watch_begin(void)
{
	count = 0;
}

void watch_add(int fd, short events)
{
	if (fd < 0 || count == MOST)
		return;
	fds[count++] = (struct pollfd){ .fd = fd, .events = events };
}

void watch_wait(int timeout_ms)
{
	if (poll(fds, count, timeout_ms) <= 0)
		count = 0; /* interrupted or timed out: nothing came */
}

short watch_got(int fd)
{
	for (nfds_t i = 0; fd >= 0 && i < count; i++)
		if (fds[i].fd == fd)
			return fds[i].revents;
	return 0;
}
