/* streams.c: pipes or a terminal between the container and the log, the clients. */
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clients.h"
#include "log.h"
#include "proto.h"
#include "watch.h"

enum { END_OF_FILE = 4 }; /* what a keyboard sends for it */

static bool is_tty, once, accepts, dead;
static bool hung_up; /* nobody has the other end of the terminal open */
static int container_end[3] = { -1, -1, -1 };
static int from[3] = { -1, -1, -1 }; /* [1] and [2]: what the container writes; a terminal's is [1] */
static int to = -1;                  /* what it reads */

BUFFER input[PAYLOAD];
static size_t input_size, input_done;
static int input_client;
static bool input_ends;

static void write_input(void);

static bool new_pipe(int *reader, int *writer)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return false;
	*reader = ends[0];
	*writer = ends[1];
	return true;
}

/* Only our ends: the container's are as programs expect them. */
static bool non_blocking(int fd)
{
	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0;
}

bool streams_start(bool tty, enum streams_input mode)
{
	is_tty = tty;
	once = mode == INPUT_ONCE;
	accepts = mode != INPUT_NONE;
	if (tty)
		return true;
	if (mode != INPUT_NONE && (!new_pipe(&container_end[0], &to) || !non_blocking(to)))
		return false;
	for (int i = 1; i < 3; i++)
		if (!new_pipe(&from[i], &container_end[i]) || !non_blocking(from[i]))
			return false;
	return true;
}

int streams_container_end(int number)
{
	return container_end[number];
}

void streams_close_container_ends(void)
{
	for (int i = 0; i < 3; i++) {
		if (container_end[i] >= 0)
			close(container_end[i]);
		container_end[i] = -1;
	}
}

void streams_terminal(int master)
{
	if (from[1] >= 0 || !is_tty) {
		close(master);
		return;
	}
	non_blocking(master);
	from[1] = to = master;
	write_input(); /* what was typed before */
}

void streams_resize(unsigned short rows, unsigned short columns)
{
	struct winsize size = { .ws_row = rows, .ws_col = columns };
	if (is_tty && from[1] >= 0)
		ioctl(from[1], TIOCSWINSZ, &size);
}

static void end_of_output(int stream)
{
	log_end(stream);
	if (from[stream] == to)
		to = -1;
	close(from[stream]);
	from[stream] = -1;
}

/* False when there was nothing. */
static bool read_output(int stream)
{
	char *room = from[stream] < 0 ? NULL : clients_buffer();
	if (!room)
		return false;
	ssize_t n = read(from[stream], room, PAYLOAD);
	if (n > 0) {
		log_write(stream, room, (size_t)n);
		clients_send(stream == 1 ? TO_OUT : TO_ERR, (size_t)n);
		return true;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	/* EIO: nobody has the other end of the terminal open. As long as the container lives, somebody may open it again. */
	if (is_tty && !dead)
		hung_up = true;
	else
		end_of_output(stream);
	return false;
}

static void end_of_input(void)
{
	if (to >= 0 && !is_tty)
		close(to);
	to = -1;
}

static void write_input(void)
{
	if (is_tty && to < 0 && accepts && !dead)
		return; /* the terminal is still to come */
	if (!accepts)
		input_done = input_size;
	while (input_done < input_size && to >= 0) {
		ssize_t n = write(to, input + input_done, input_size - input_done);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) { /* the container does not read any more: the rest is nobody's */
			input_done = input_size;
			if (!is_tty)
				end_of_input();
			break;
		}
		input_done += (size_t)n;
	}
	if (input_size && input_client >= 0)
		clients_input_taken(input_client);
	input_size = input_done = 0;
	if (!input_ends)
		return;
	input_ends = false;
	if (!is_tty) {
		end_of_input();
	} else {
		input[0] = END_OF_FILE;
		input_size = 1;
		input_client = -1;
	}
}

char *streams_input_room(void)
{
	return input_size || input_ends ? NULL : input;
}

void streams_input(size_t size, int client)
{
	input_size = size;
	input_done = 0;
	input_client = client;
	if (size)
		write_input();
	else
		clients_input_taken(client);
}

void streams_input_closed(void)
{
	if (!once || to < 0)
		return;
	input_ends = true;
	if (!input_size)
		write_input();
}

int streams_patience_ms(void)
{
	return hung_up ? 500 : -1;
}

void streams_watch(void)
{
	bool may_read = clients_buffer() != NULL;
	if (hung_up)
		return; /* poll(2) would report that again and again */
	short out = input_size ? POLLOUT : 0;
	if (may_read && from[1] >= 0)
		watch_add(from[1], (short)(POLLIN | (from[1] == to ? out : 0)));
	else if (from[1] >= 0 && from[1] == to && out)
		watch_add(to, out);
	if (may_read)
		watch_add(from[2], POLLIN);
	if (out && to != from[1])
		watch_add(to, out);
}

bool streams_serve(void)
{
	bool any = false;
	if (hung_up) {
		hung_up = false;
		return read_output(1);
	}
	if (input_size && watch_got(to) & (POLLOUT | POLLERR))
		write_input();
	for (int stream = 1; stream < 3; stream++)
		if (watch_got(from[stream]) & (POLLIN | POLLHUP | POLLERR))
			any |= read_output(stream);
	return any;
}

bool streams_ended(void)
{
	return from[1] < 0 && from[2] < 0;
}

void streams_container_dead(void)
{
	dead = true;
	hung_up = false;
}

void streams_close(void)
{
	for (int stream = 1; stream < 3; stream++)
		if (from[stream] >= 0)
			end_of_output(stream);
	end_of_input();
}
