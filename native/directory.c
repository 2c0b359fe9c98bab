/* directory.c: getdents64(2), a few entries at a time. */
#include "directory.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "executor.h"
#include "kernel.h"

const struct entry *next_entry(struct listing *list)
{
	for (;;) {
		if (list->at >= list->have) {
			list->at = 0;
			list->have = syscall(SYS_getdents64, list->dir, list->bytes, sizeof list->bytes);
			if (list->have < 0 && errno == ENOENT)
				list->have = 0; /* it has been removed meanwhile, so it is empty */
			SYS(list->have, "directory");
			if (list->have == 0)
				return NULL;
		}
		const struct entry *e = (const void *)(list->bytes + list->at);
		list->at += e->size;
		if (strcmp(e->name, ".") != 0 && strcmp(e->name, "..") != 0)
			return e;
	}
}

void rewind_listing(struct listing *list)
{
	SYS(lseek(list->dir, 0, SEEK_SET), "directory");
	list->have = list->at = 0;
}
