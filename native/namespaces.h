/* namespaces.h: kinds of namespaces by name, and a user namespace for ID-mapped mounts. */
#ifndef KNARR_NAMESPACES_H
#define KNARR_NAMESPACES_H

#include <stdint.h>

/* "mnt,pid" as CLONE_* flags; ends the step when a kind is unknown. */
uint64_t namespace_kinds(const char *names);

/* Nobody in a container may open this process's memory or descriptors, until it executes something else. */
void hide_from_others(void);

/* A user namespace with these maps ("c h n" triples separated by commas), for mount_setattr. */
int mapped_user_namespace(const char *uid_maps, const char *gid_maps);

#endif
