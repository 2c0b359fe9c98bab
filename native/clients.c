/* clients.c: the connections of those who watch a container and type into it.
 *
 * One message of output is in flight at a time. While a client has not taken it, nothing more is read from the container,
 * which then waits as for a full pipe. After the container's end nothing may wait: what is left is kept, and
 * delivered as clients take it. */
#include "clients.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "monitor.h"
#include "packet.h"
#include "proto.h"
#include "streams.h"
#include "watch.h"

enum { MOST = 24, LAST_WORDS = 4 << 20 };

static struct client {
	int fd;
	bool primary;
	bool unseen;  /* the message in flight is not sent yet */
	bool hello, taken; /* these are not sent yet */
	bool no_input; /* it has said so */
	bool deaf;    /* it has closed its end */
	bool held;    /* its next message is input, for which there is no room yet */
	size_t words; /* how much of the last words it has */
} clients[MOST];

static int listening = -1;
static char hello[32];
BUFFER message[MESSAGE]; /* the one in flight */
static size_t message_size;
static char *last_words; /* frames: size, message */
static size_t last_size;
static bool ending, complete;

static void drop(struct client *c)
{
	close(c->fd);
	c->fd = -1;
}

static void add(int fd, bool primary)
{
	for (int i = 0; i < MOST; i++) {
		if (clients[i].fd >= 0)
			continue;
		clients[i] = (struct client){ .fd = fd, .primary = primary, .hello = true };
		return;
	}
	close(fd);
}

void clients_start(int listener, int primary, bool tty, bool input)
{
	for (int i = 0; i < MOST; i++)
		clients[i].fd = -1;
	snprintf(hello, sizeof hello, "%c%s%s", TO_HELLO, tty ? "tty" : "pipe", input ? " stdin" : "");
	listening = listener;
	if (primary >= 0)
		add(primary, true);
}

/* ---- to the clients ---- */

/* False: not now. One that does not hear any more may have said something before it went (that it detaches): its
 * connection is dropped when that has been read. */
static bool send_to(struct client *c, const void *bytes, size_t size)
{
	if (c->deaf || send(c->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return true;
	if (errno == EAGAIN || errno == EINTR)
		return false;
	c->deaf = true;
	return true;
}

static bool behind(const struct client *c)
{
	return c->hello || c->unseen || c->taken || c->words < last_size;
}

static void catch_up(struct client *c)
{
	if (c->fd >= 0 && c->hello && send_to(c, hello, strlen(hello)))
		c->hello = false;
	if (c->fd >= 0 && !c->hello && c->unseen && send_to(c, message, message_size))
		c->unseen = false;
	if (c->fd >= 0 && !c->hello && c->taken && send_to(c, (char[]){ TO_TAKEN }, 1))
		c->taken = false;
	while (c->fd >= 0 && !c->hello && !c->unseen && c->words < last_size) {
		uint32_t size;
		memcpy(&size, last_words + c->words, sizeof size);
		if (!send_to(c, last_words + c->words + sizeof size, size))
			return;
		c->words += sizeof size + size;
	}
}

static void all_catch_up(void)
{
	for (int i = 0; i < MOST; i++)
		if (clients[i].fd >= 0)
			catch_up(&clients[i]);
}

static bool in_flight(void)
{
	for (int i = 0; i < MOST; i++)
		if (clients[i].fd >= 0 && clients[i].unseen)
			return true;
	return false;
}

static bool anybody(void)
{
	for (int i = 0; i < MOST; i++)
		if (clients[i].fd >= 0)
			return true;
	return false;
}

static void keep(const char *bytes, size_t size)
{
	uint32_t n = (uint32_t)size;
	if (!last_words || last_size + sizeof n + size > LAST_WORDS)
		return;
	memcpy(last_words + last_size, &n, sizeof n);
	memcpy(last_words + last_size + sizeof n, bytes, size);
	last_size += sizeof n + size;
	all_catch_up();
}

/* While the last words are written, a buffer apart: the message in flight may still be on its way. */
BUFFER words[MESSAGE];

char *clients_buffer(void)
{
	if (ending)
		return last_size + 2 * MESSAGE > LAST_WORDS ? NULL : words + 1;
	return in_flight() ? NULL : message + 1;
}

void clients_send(char type, size_t size)
{
	if (ending) {
		words[0] = type;
		keep(words, size + 1);
		return;
	}
	message[0] = type;
	message_size = size + 1;
	for (int i = 0; i < MOST; i++)
		clients[i].unseen = clients[i].fd >= 0;
	all_catch_up();
}

void clients_last_words(void)
{
	ending = true;
	if (listening >= 0)
		close(listening);
	listening = -1;
	if (!anybody())
		return;
	/* Pages that are not touched cost nothing. */
	last_words = mmap(NULL, LAST_WORDS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (last_words == MAP_FAILED)
		last_words = NULL;
}

void clients_exit(int code)
{
	char text[16];
	int n = snprintf(text, sizeof text, "%c%d", TO_EXIT, code);
	keep(text, (size_t)n);
	complete = true;
	(void)clients_done();
}

bool clients_done(void)
{
	for (int i = 0; i < MOST; i++)
		if (clients[i].fd >= 0 && complete && !behind(&clients[i]))
			drop(&clients[i]);
	return !anybody();
}

void clients_close(void)
{
	for (int i = 0; i < MOST; i++)
		if (clients[i].fd >= 0)
			drop(&clients[i]);
}

/* ---- from the clients ---- */

void clients_input_taken(int client)
{
	if (clients[client].fd < 0)
		return;
	clients[client].taken = true;
	catch_up(&clients[client]);
}

static void closed(struct client *c)
{
	bool primary = c->primary, typed = !c->no_input;
	drop(c);
	if (primary)
		monitor_primary_gone();
	else if (typed)
		streams_input_closed();
}

static void resize(char *text)
{
	char *end;
	unsigned long rows = strtoul(text, &end, 10), columns = strtoul(end, NULL, 10);
	streams_resize((unsigned short)rows, (unsigned short)columns);
}

/* Takes one message. False when there is none, or none that can be taken now. */
static bool take(struct client *c)
{
	char type, text[64];
	ssize_t n = packet_receive(c->fd, &type, 1, MSG_PEEK);
	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			closed(c);
		return false;
	}
	if (type == FROM_INPUT) {
		char *room = streams_input_room();
		if (!room) {
			c->held = true;
			return false;
		}
		struct iovec parts[2] = { { &type, 1 }, { room, PAYLOAD } };
		struct msghdr head = { .msg_iov = parts, .msg_iovlen = 2 };
		n = recvmsg(c->fd, &head, MSG_DONTWAIT);
		if (n < 0 || head.msg_flags & MSG_TRUNC) /* longer than what was agreed */
			closed(c);
		else
			streams_input((size_t)n - 1, (int)(c - clients));
		return c->fd >= 0;
	}
	if (type == FROM_END && !streams_input_room()) {
		c->held = true;
		return false;
	}
	n = recv(c->fd, text, sizeof text - 1, MSG_DONTWAIT);
	if (n <= 0)
		return false;
	text[n] = '\0';
	switch (type) {
	case FROM_END:
		c->no_input = true; /* its going away closes nothing any more */
		streams_input_closed();
		break;
	case FROM_SIZE:
		resize(text + 1);
		break;
	case FROM_SIGNAL:
		monitor_signal(atoi(text + 1));
		break;
	case FROM_DETACH:
		drop(c); /* the end of the connection is the answer */
		return false;
	case FROM_NO_INPUT:
		c->no_input = true;
		break;
	}
	return true;
}

void clients_watch(void)
{
	watch_add(listening, POLLIN);
	bool room = streams_input_room() != NULL;
	for (int i = 0; i < MOST; i++) {
		struct client *c = &clients[i];
		if (room)
			c->held = false;
		if (c->fd < 0)
			continue;
		short events = (short)((c->held ? 0 : POLLIN) | (behind(c) ? POLLOUT : 0));
		/* poll(2) reports a hang-up even when not asked; only the primary's matters while input is held. */
		if (events || c->primary)
			watch_add(c->fd, events);
	}
}

void clients_serve(void)
{
	for (int i = 0; i < MOST; i++) {
		struct client *c = &clients[i];
		short got = c->fd < 0 ? 0 : watch_got(c->fd);
		if (got & POLLOUT)
			catch_up(c);
		if (c->fd >= 0 && c->held && c->primary && got & (POLLHUP | POLLERR)) {
			closed(c);
			continue;
		}
		for (int turns = 0; turns < 16 && c->fd >= 0 && !c->held && got & (POLLIN | POLLHUP | POLLERR); turns++)
			if (!take(c))
				break;
	}
	if (watch_got(listening) & POLLIN) {
		int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0) {
			add(fd, false);
			all_catch_up();
		}
	}
}
