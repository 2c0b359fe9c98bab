/* monitor_options.h: the words of `knarr-native monitor`. */
#ifndef KNARR_MONITOR_OPTIONS_H
#define KNARR_MONITOR_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"

struct monitor_options {
	int plan, status, primary, listener, teardown, lock; /* -1: none */
	int input; /* enum streams_input */
	bool tty;
	bool stays; /* the container outlives its primary client */
	unsigned short rows, columns;
	const char *log, *pidfile, *exitfile, *oom, *sync;
	enum log_driver driver;
	uint64_t max_size;
	int max_files;
	bool userns;
	const char *hold, *relay; /* see relay.h */
	char **exit_command; /* NULL: none */
};

/* Ends the program with one line when a word is wrong. */
struct monitor_options monitor_options(int argc, char **argv);

#endif
