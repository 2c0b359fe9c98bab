/* resctrl.c: a group of resctrl (cache and memory bandwidth), which is made as asked or has to be like that already. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor.h"
#include "ops.h"

enum { ROOM = 16384 };

/* One line without its blanks, as the kernel indents them. Returns what follows it. */
static const char *line_of(const char *text, char *line, size_t room)
{
	size_t n = 0;
	for (; *text && *text != '\n'; text++)
		if (*text != ' ' && *text != '\t' && n < room - 1)
			line[n++] = *text;
	line[n] = '\0';
	return *text ? text + 1 : text;
}

static bool has_line(const char *text, const char *asked)
{
	char wanted[1024], line[1024];
	line_of(asked, wanted, sizeof wanted);
	while (*text) {
		text = line_of(text, line, sizeof line);
		if (strcmp(line, wanted) == 0)
			return true;
	}
	return false;
}

static int open_schemata(const char *directory, int flags)
{
	char path[4096];
	if (snprintf(path, sizeof path, "%s/schemata", directory) >= (int)sizeof path)
		fail(ENAMETOOLONG, "");
	int fd = open(path, flags | O_CLOEXEC);
	SYS(fd, "schemata");
	return fd;
}

/* directory line… */
void op_resctrl_group(int argc, char **argv)
{
	static char text[ROOM];
	bool made = mkdir(argv[0], 0755) == 0;
	if (!made && errno != EEXIST)
		fail(errno, "");
	if (argc == 1)
		return;
	int fd = open_schemata(argv[0], made ? O_WRONLY : O_RDONLY);
	size_t have = 0;
	for (ssize_t n; !made && have < sizeof text - 1 && (n = read(fd, text + have, sizeof text - 1 - have)) > 0;)
		have += (size_t)n;
	text[have] = '\0';
	for (int i = 1; i < argc; i++) {
		if (made)
			SYS(dprintf(fd, "%s\n", argv[i]), "%.100s", argv[i]);
		else if (!has_line(text, argv[i]))
			fail(EEXIST, "without %.100s", argv[i]);
	}
	close(fd);
}
