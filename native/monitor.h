/* monitor.h: `knarr-native monitor`, and what its parts ask of it. */
#ifndef KNARR_MONITOR_H
#define KNARR_MONITOR_H

#include <stdbool.h>

int monitor_main(int argc, char **argv);

/* From a client: a signal for the container's process. */
void monitor_signal(int number);

/* The foreground command has gone without detaching: its container goes with it. */
void monitor_primary_gone(void);

#endif
