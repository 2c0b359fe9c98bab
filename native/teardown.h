/* teardown.h: undoing what was made for a container. */
#ifndef KNARR_TEARDOWN_H
#define KNARR_TEARDOWN_H

#include <sys/types.h>

/* Executes a plan in a process of its own, every step whatever the others did; its pid, which the caller waits for.
 * With a user namespace (else -1) steps are executed in there, unless their origin begins with `host`. */
pid_t teardown_start(int plan, int user_namespace);

#endif
