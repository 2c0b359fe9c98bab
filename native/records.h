/* records.h: what the monitor writes down for other commands to find. */
#ifndef KNARR_RECORDS_H
#define KNARR_RECORDS_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

/* pid, its start, and the monitor's; `started` may be NULL. False when it could not be written. */
bool record_process(const char *path, int proc, pid_t pid, const struct timespec *started);

/* status as wait(2) gives it. */
bool record_exit(const char *path, int status, bool oom, struct timespec started, struct timespec finished);

/* The number behind `oom_kill ` in a file of a memory cgroup; 0 when there is none. */
unsigned long long oom_kills(const char *path);

int exit_code_of(int status);

#endif
