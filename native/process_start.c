/* process_start.c: field 22 of /proc/PID/stat. */
#include "process_start.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

unsigned long long process_start(int proc, pid_t pid)
{
	char name[32], text[1024];
	snprintf(name, sizeof name, "%d/stat", (int)pid);
	int fd = openat(proc, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* Field 2 is a name of the process's choice and may hold blanks and parentheses. */
	char *p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		if ((p = strchr(p, ' ')))
			p++;
	return p ? strtoull(p, NULL, 10) : 0;
}
