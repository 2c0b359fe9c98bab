/* mounts.h: making a mount and putting it in place. Each ends the step when it fails. */
#ifndef KNARR_MOUNTS_H
#define KNARR_MOUNTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A detached mount of a new filesystem instance; data is "key,key=value". */
int new_filesystem(const char *type, const char *source, const char *data, uint64_t attributes);

/* Puts a detached mount on a target, and closes both. */
void attach(int mount, int target);

/* MOUNT_ATTR_* to set and clear; `propagation` is one MS_* or 0. */
void set_attributes(int mount, uint64_t set, uint64_t clear, bool recursive, uint64_t propagation);

/* One MS_* of propagation, with MS_REC or without, or 0. */
void set_propagation(int mount, uint64_t flags);

/* S_IF* of b, c, u or p. Ends the step for another. */
mode_t node_type(const char *type);

#endif
