/* attach.c: the foreground: standard descriptors here, a monitor's connection there. */
#include "attach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "packet.h"
#include "proto.h"
#include "watch.h"

enum { VANISHED = 125 };

static int monitor, signals;
static bool use_terminal, no_input, proxy;
static bool greeted, typing; /* standard input is read */
static bool awaiting;        /* the last input message is still on its way */
static char keys[32];
static size_t key_count, keys_seen;

static struct termios before;
static bool raw;

static void restore_terminal(void)
{
	if (raw)
		tcsetattr(0, TCSADRAIN, &before);
	raw = false;
}

_Noreturn static void leave(int code)
{
	restore_terminal();
	_exit(code);
}

/* The way a program without a handler would have gone, for those who look at how we ended. */
_Noreturn static void die_of(int number)
{
	restore_terminal();
	sigset_t set;
	signal(number, SIG_DFL);
	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	kill(getpid(), number);
	_exit(128 + number);
}

static void make_raw(void)
{
	if (tcgetattr(0, &before) < 0)
		return;
	struct termios settings = before;
	cfmakeraw(&settings);
	raw = tcsetattr(0, TCSADRAIN, &settings) == 0;
}

_Noreturn static void vanished(void)
{
	restore_terminal();
	dprintf(2, "knarr: the container's monitor has vanished\n");
	_exit(VANISHED);
}

/* Small messages; there is always room for the next few of them. */
static void tell(const char *bytes, size_t size)
{
	if (send(monitor, bytes, size, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
		vanished();
}

static void tell_size(void)
{
	struct winsize size;
	char text[32];
	if (!use_terminal || ioctl(0, TIOCGWINSZ, &size) < 0)
		return;
	int n = snprintf(text, sizeof text, "%c%u %u", FROM_SIZE, size.ws_row, size.ws_col);
	tell(text, (size_t)n);
}

/* ---- from the monitor ---- */

BUFFER output[MESSAGE + 1];
static size_t output_size, output_done;

/* A pipe that has room takes this much without making us wait (pipe(7)); a file takes everything. */
static size_t portion(int fd, size_t size)
{
	static signed char is_file[3];
	struct stat st;
	if (!is_file[fd])
		is_file[fd] = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? 1 : -1;
	return is_file[fd] > 0 || size < 4096 ? size : 4096;
}

static int destination(void)
{
	return output[0] == TO_ERR ? 2 : 1;
}

static void write_output(void)
{
	int fd = destination();
	ssize_t n = write(fd, output + output_done, portion(fd, output_size - output_done));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0 && errno == EPIPE)
		die_of(SIGPIPE);
	if (n < 0) { /* a full disk, a terminal that is gone */
		int error = errno;
		restore_terminal();
		dprintf(2, "knarr: cannot write the container's output: %s\n", strerror(error));
		_exit(VANISHED);
	}
	output_done += (size_t)n;
	if (output_done == output_size)
		output_size = 0;
}

static void greet(const char *words)
{
	if (greeted)
		return;
	greeted = true;
	typing = !no_input && strstr(words, " stdin");
	if (!typing)
		tell((char[]){ FROM_NO_INPUT }, 1);
	if (use_terminal && strncmp(words, "tty", 3) == 0) {
		if (typing)
			make_raw();
		tell_size();
	}
}

static void read_monitor(void)
{
	ssize_t n = packet_receive(monitor, output, sizeof output - 1, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		vanished();
	output[n] = '\0';
	switch (output[0]) {
	case TO_OUT:
	case TO_ERR:
		output_size = (size_t)n;
		output_done = 1;
		if (output_size == 1)
			output_size = 0;
		break;
	case TO_EXIT:
		leave(atoi(output + 1));
	case TO_HELLO:
		greet(output + 1);
		break;
	case TO_TAKEN:
		awaiting = false;
		break;
	}
}

/* ---- to the monitor ---- */

_Noreturn static void detach(void)
{
	char byte;
	struct pollfd fd = { .fd = monitor, .events = POLLIN };
	restore_terminal();
	tell((char[]){ FROM_DETACH }, 1);
	/* The end of the connection says that the monitor knows; before it, our own end would look like an accident. */
	while (poll(&fd, 1, 1000) > 0)
		if (recv(monitor, &byte, 1, 0) <= 0)
			break;
	(void)!write(1, "\n", 1);
	_exit(0);
}

BUFFER typed[PAYLOAD];
BUFFER sending[MESSAGE + sizeof keys];

/* Copies what was typed without the detach keys; the beginning of them is held back until it is clear what follows. */
static size_t without_keys(const char *bytes, size_t size, bool *found)
{
	size_t n = 1;
	for (size_t i = 0; i < size; i++) {
		if (key_count && bytes[i] == keys[keys_seen]) {
			if (++keys_seen == key_count) {
				*found = true;
				return n;
			}
			continue;
		}
		memcpy(sending + n, keys, keys_seen);
		n += keys_seen;
		keys_seen = 0;
		if (key_count && bytes[i] == keys[0] && key_count > 1)
			keys_seen = 1;
		else
			sending[n++] = bytes[i];
	}
	return n;
}

static void read_input(void)
{
	bool found = false;
	ssize_t n = read(0, typed, sizeof typed - sizeof keys);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		typing = false;
		if (keys_seen) { /* the beginning of the detach keys was meant as such */
			sending[0] = FROM_INPUT;
			memcpy(sending + 1, keys, keys_seen);
			tell(sending, keys_seen + 1);
		}
		tell((char[]){ FROM_END }, 1);
		return;
	}
	size_t size = without_keys(typed, (size_t)n, &found);
	if (size > 1) {
		sending[0] = FROM_INPUT;
		tell(sending, size);
		awaiting = true;
	}
	if (found)
		detach();
}

static void read_signals(void)
{
	struct signalfd_siginfo info;
	char text[16];
	while (read(signals, &info, sizeof info) == sizeof info) {
		if (info.ssi_signo == SIGWINCH) {
			tell_size();
		} else if (!proxy) {
			die_of((int)info.ssi_signo);
		} else {
			int n = snprintf(text, sizeof text, "%c%u", FROM_SIGNAL, info.ssi_signo);
			tell(text, (size_t)n);
		}
	}
}

static bool hexadecimal_keys(const char *text)
{
	for (; text[0] && text[1]; text += 2) {
		char pair[3] = { text[0], text[1], '\0' }, *end;
		if (key_count == sizeof keys)
			return false;
		keys[key_count++] = (char)strtoul(pair, &end, 16);
		if (*end)
			return false;
	}
	return !*text;
}

static bool options(int argc, char **argv)
{
	char *end;
	if (argc < 2)
		return false;
	monitor = (int)strtol(argv[1], &end, 10);
	if (*end || end == argv[1] || fcntl(monitor, F_SETFD, FD_CLOEXEC) < 0)
		return false;
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "tty") == 0)
			use_terminal = isatty(0);
		else if (strcmp(argv[i], "nostdin") == 0)
			no_input = true;
		else if (strcmp(argv[i], "sigproxy") == 0)
			proxy = true;
		else if (strncmp(argv[i], "keys=", 5) != 0 || !hexadecimal_keys(argv[i] + 5))
			return false;
	}
	return true;
}

static void catch_signals(void)
{
	static const int ending[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM };
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
		struct sigaction old;
		/* What was ignored for us (nohup, a shell's background) stays ignored. */
		if (sigaction(ending[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaddset(&set, ending[i]);
	}
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* ---- the foreground process --------------------------------------------------------------------------------------
 * What the user's shell waits for. The monitor is another process: when this one ends without a word, and it is the
 * container's primary client, the monitor ends the container. */
int attach_main(int argc, char **argv)
{
	if (!options(argc, argv)) {
		dprintf(2, "usage: knarr-native attach FD [tty] [nostdin] [keys=HEX] [sigproxy]\n");
		return VANISHED;
	}
	catch_signals();
	for (;;) {
		watch_begin();
		watch_add(signals, POLLIN);
		if (output_size)
			watch_add(destination(), POLLOUT);
		else
			watch_add(monitor, POLLIN);
		if (typing && !awaiting)
			watch_add(0, POLLIN);
		watch_wait(-1);
		if (watch_got(signals))
			read_signals();
		if (output_size && watch_got(destination()))
			write_output();
		else if (!output_size && watch_got(monitor))
			read_monitor();
		if (typing && !awaiting && watch_got(0))
			read_input();
	}
}
