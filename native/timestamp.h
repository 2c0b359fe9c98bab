/* timestamp.h: points in time as text. */
#ifndef KNARR_TIMESTAMP_H
#define KNARR_TIMESTAMP_H

#include <time.h>

enum { TIMESTAMP = 30 }; /* "2006-01-02T15:04:05.000000000Z", without a NUL */

/* RFC 3339 with nanoseconds, UTC. Writes exactly TIMESTAMP characters. */
void timestamp(char text[TIMESTAMP], struct timespec when);

#endif
