/* watch.h: what one round of the loop waits for. */
#ifndef KNARR_WATCH_H
#define KNARR_WATCH_H

#include <stdbool.h>

/* Begin a round; watch for events (POLLIN…) on a descriptor, -1 is none; wait; ask what came. A descriptor that was
 * not added has nothing. */
void watch_begin(void);
void watch_add(int fd, short events);
void watch_wait(int timeout_ms);
short watch_got(int fd);

#endif
