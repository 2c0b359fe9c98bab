/* log.h: the container's output as a file. */
#ifndef KNARR_LOG_H
#define KNARR_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_driver { LOG_NONE, LOG_K8S_FILE, LOG_JSON_FILE };

/* Rotates at `max_size` bytes (0: never), keeps `files` files in all. */
void log_open(const char *path, enum log_driver driver, uint64_t max_size, int files);

/* stream: 1 standard output, 2 standard error. What does not fit on the disk is lost, the container goes on. */
void log_write(int stream, const char *bytes, size_t size);

/* The stream has ended: writes what was held back of an unfinished character. */
void log_end(int stream);

#endif
