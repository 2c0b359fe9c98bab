/* beneath.h: paths inside the container's root, resolved by the kernel so that no link leads out of it. */
#ifndef KNARR_BENEATH_H
#define KNARR_BENEATH_H

#include <stdbool.h>
#include <sys/types.h>

/* As open(2), beneath the root; -1 with errno. Links in the path are followed as the container would see them. */
int in_open(const char *path, int flags);

/* As above, but no link is followed anywhere in the path. */
int in_open_plain(const char *path, int flags);

/* A descriptor (O_PATH) of a directory or a file there, made with its parents when it is not there. Ends the step
 * when it cannot be made. `made` may be NULL. */
int in_make(const char *path, bool file, mode_t mode, bool *made);

/* The directory that holds the last name of `path` (made when missing), and that name. */
int in_parent(const char *path, char name[256]);

#endif
