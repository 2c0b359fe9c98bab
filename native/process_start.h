/* process_start.h: when a process began, which together with its pid names it for good. */
#ifndef KNARR_PROCESS_START_H
#define KNARR_PROCESS_START_H

#include <sys/types.h>

/* Field 22 of PID/stat below the procfs `proc`, in clock ticks since boot; 0 when there is no such process. */
unsigned long long process_start(int proc, pid_t pid);

#endif
