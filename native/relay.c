/* relay.c: connections from the host's own loopback, where the kernel cannot redirect: IPv6 has no route_localnet.
 *
 * The sockets that reserve the published ports listen once the container runs. What the ruleset redirects never gets
 * here; what comes from loopback is carried by a process of its own, which dies with the monitor. */
#include "relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel.h"
#include "watch.h"
#include "workload.h"

enum { MOST = 64, CLIENT = 3 }; /* connections at a time; the others wait */

static const char *list = "";
static struct sockaddr_in target = { .sin_family = AF_INET };
static int ready = -1;
static pid_t carriers[MOST];
static int carrying;

/* ---- the list ---- */

/* The next `FD` or `FD:PORT`; PORT is 0 without one. */
static bool next(const char **at, int *fd, int *port)
{
	char *end;
	if (!**at)
		return false;
	*fd = (int)strtol(*at, &end, 10);
	*port = *end == ':' ? (int)strtol(end + 1, &end, 10) : 0;
	*at = end + (*end == ',');
	return true;
}

bool relay_prepare(const char *text, const char *address)
{
	int fd, port;
	for (const char *at = text, *before = at; next(&at, &fd, &port); before = at)
		if (at == before || fd < CLIENT || port < 0 || port > 65535 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
		    (*at && at[-1] != ','))
			return false;
	list = text;
	return !address || inet_pton(AF_INET, address, &target.sin_addr) == 1;
}

void relay_begin(void)
{
	int fd, port;
	for (const char *at = list; next(&at, &fd, &port);) {
		if (!port || listen(fd, 64) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
			continue; /* as before: reserved, and refused */
		if (ready < 0)
			ready = epoll_create1(EPOLL_CLOEXEC);
		struct epoll_event event = { .events = EPOLLIN, .data.u64 = (uint64_t)port << 32 | (unsigned)fd };
		epoll_ctl(ready, EPOLL_CTL_ADD, fd, &event);
	}
}

void relay_end(void)
{
	int fd, port;
	for (const char *at = list; next(&at, &fd, &port);)
		close(fd);
	if (ready >= 0)
		close(ready);
	ready = -1;
	list = "";
}

/* ---- one connection: a copy of the monitor that has nothing but its two ends ------------------------------------- */

struct way {
	int from, to;
	size_t have, at;
	bool ended;
	char bytes[16384];
};

_Noreturn static void give_up(void)
{
	/* The client is to see that it was not the end: a reset. */
	setsockopt(CLIENT, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger));
	_exit(1);
}

static void move(struct way *way, short from_got, short to_got)
{
	ssize_t n;
	if (way->have == 0 && !way->ended && from_got) {
		n = recv(way->from, way->bytes, sizeof way->bytes, MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			give_up();
		way->ended = n == 0;
		way->have = n > 0 ? (size_t)n : 0;
		way->at = 0;
		if (way->ended)
			shutdown(way->to, SHUT_WR);
	}
	if (way->have > 0 && to_got) {
		n = send(way->to, way->bytes + way->at, way->have, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			give_up();
		way->at += n > 0 ? (size_t)n : 0;
		way->have -= n > 0 ? (size_t)n : 0;
	}
}

_Noreturn static void carry(int server)
{
	static struct way ways[2];
	ways[0].from = ways[1].to = CLIENT;
	ways[0].to = ways[1].from = server;
	while (!ways[0].ended || !ways[1].ended) {
		struct pollfd ends[2] = { { .fd = CLIENT }, { .fd = server } };
		for (int i = 0; i < 2; i++) {
			if (ways[i].have > 0)
				ends[!i].events |= POLLOUT;
			else if (!ways[i].ended)
				ends[i].events |= POLLIN;
		}
		if (poll(ends, 2, -1) < 0 && errno != EINTR)
			give_up();
		if ((ends[0].revents | ends[1].revents) & POLLERR)
			give_up();
		for (int i = 0; i < 2; i++)
			move(&ways[i], ends[i].revents & (POLLIN | POLLHUP), ends[!i].revents & POLLOUT);
	}
	_exit(0);
}

_Noreturn static void be_carrier(pid_t monitor, int client, int port)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != monitor || dup2(client, CLIENT) < 0)
		_exit(1);
	k_close_range(CLIENT + 1, ~0U, 0); /* the container's lock is one of them */
	workload_default_signals();
	target.sin_port = htons((uint16_t)port);
	int server = socket(AF_INET, SOCK_STREAM, 0);
	if (server < 0 || connect(server, (struct sockaddr *)&target, sizeof target) < 0)
		give_up();
	carry(server);
}

/* ---- the monitor's side ---- */

static bool from_loopback(const struct sockaddr_in6 *peer)
{
	const uint8_t *byte = peer->sin6_addr.s6_addr;
	return peer->sin6_family == AF_INET6 &&
	       (IN6_IS_ADDR_LOOPBACK(&peer->sin6_addr) || (IN6_IS_ADDR_V4MAPPED(&peer->sin6_addr) && byte[12] == 127));
}

void relay_watch(void)
{
	if (carrying < MOST)
		watch_add(ready, POLLIN);
}

void relay_serve(void)
{
	struct epoll_event event;
	struct sockaddr_in6 peer = { 0 };
	socklen_t size = sizeof peer;
	if (!watch_got(ready) || epoll_wait(ready, &event, 1, 0) != 1)
		return;
	int client = accept4((int)(event.data.u64 & 0xffffffff), (struct sockaddr *)&peer, &size, SOCK_CLOEXEC);
	if (client < 0)
		return;
	pid_t self = getpid(), pid = from_loopback(&peer) ? fork() : -1;
	if (pid == 0)
		be_carrier(self, client, (int)(event.data.u64 >> 32));
	for (int i = 0; pid > 0 && i < MOST; i++) {
		if (carriers[i] == 0) {
			carriers[i] = pid;
			carrying++;
			pid = 0;
		}
	}
	if (pid < 0) /* refused, as late as it is */
		setsockopt(client, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger));
	close(client);
}

void relay_reaped(pid_t pid)
{
	for (int i = 0; i < MOST; i++) {
		if (carriers[i] == pid) {
			carriers[i] = 0;
			carrying--;
		}
	}
}
