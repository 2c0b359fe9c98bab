/* seal.h: running from a copy of this program that nobody can write to. */
#ifndef KNARR_SEAL_H
#define KNARR_SEAL_H

#include <stdbool.h>

/* Is this process running from such a copy? */
bool sealed(void);

/* Executes `argv` from a sealed copy. Returns only when that fails, with errno set. */
void seal_and_exec(char **argv, char **env);

#endif
