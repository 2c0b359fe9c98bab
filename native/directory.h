/* directory.h: what is in a directory, without memory from the heap. */
#ifndef KNARR_DIRECTORY_H
#define KNARR_DIRECTORY_H

#include <stdint.h>

enum { IS_UNKNOWN = 0 /* DT_UNKNOWN */, IS_DIR = 4 /* DT_DIR */, LISTED = 2048 };

struct entry { /* as getdents64(2) writes it */
	uint64_t inode;
	int64_t next;
	unsigned short size;
	unsigned char type;
	char name[];
};

struct listing {
	int dir;
	long have, at;
	_Alignas(8) char bytes[LISTED];
};

/* The next entry, NULL at the end; `.` and `..` are left out. A failure ends the step. */
const struct entry *next_entry(struct listing *list);

/* From the beginning once more. */
void rewind_listing(struct listing *list);

#endif
