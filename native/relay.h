/* relay.h: reserved ports: kept from others, and carried to the container where the kernel cannot redirect. */
#ifndef KNARR_RELAY_H
#define KNARR_RELAY_H

#include <stdbool.h>
#include <sys/types.h>

/* `list` is `FD,FD:PORT,…`: descriptors that are just kept open, and sockets that are to be relayed to PORT of the
 * container. False if it is not that. */
bool relay_prepare(const char *list, const char *address);

/* The container runs: those with a PORT listen. */
void relay_begin(void);
void relay_watch(void);
void relay_serve(void);
/* A process has ended; it may be one of ours. */
void relay_reaped(pid_t pid);
/* Closes all descriptors of the list. */
void relay_end(void);

#endif
