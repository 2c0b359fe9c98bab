/* pass_fd.h: descriptors over sockets, and the terminal that `console` made. */
#ifndef KNARR_PASS_FD_H
#define KNARR_PASS_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Sends `fd` with a word over a socket: 0, or -1 with errno. */
int pass_fd(int socket, int fd, const char *word);

/* The same with any data; how much of it has gone, or -1. */
ssize_t pass_fd_with(int socket, int fd, const char *text, size_t size);

/* Receives one, close-on-exec; -1 when there is none. */
int receive_fd(int socket);

/* Is `fd` the terminal that this process has made (op `console`), not one of somebody else? */
bool fd_is_our_terminal(int fd);

#endif
