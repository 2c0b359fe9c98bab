/* records.c: the process record and the exit record: lines `name value`, written beside and renamed.
 *
 *     pidfile                        exitfile
 *     pid 4711                       code 137
 *     start 123456                   signal 9
 *     monitor 4700                   oom 0
 *     monitor_start 123450           started 2006-01-02T15:04:05.000000000Z
 *     started 2006-…                 finished 2006-…                          */
#include "records.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process_start.h"
#include "timestamp.h"

static bool write_beside(const char *path, const char *text, size_t size)
{
	char beside[PATH_MAX];
	if (snprintf(beside, sizeof beside, "%s~", path) >= (int)sizeof beside)
		return false;
	int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return false;
	bool done = write(fd, text, size) == (ssize_t)size;
	close(fd);
	if (done && rename(beside, path) == 0)
		return true;
	unlink(beside);
	return false;
}

bool record_process(const char *path, int proc, pid_t pid, const struct timespec *started)
{
	char text[256], time[TIMESTAMP + 1] = "";
	int n = snprintf(text, sizeof text, "pid %d\nstart %llu\nmonitor %d\nmonitor_start %llu\n", (int)pid,
	                 process_start(proc, pid), (int)getpid(), process_start(proc, getpid()));
	if (started) {
		timestamp(time, *started);
		n += snprintf(text + n, sizeof text - (size_t)n, "started %s\n", time);
	}
	return write_beside(path, text, (size_t)n);
}

int exit_code_of(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool record_exit(const char *path, int status, bool oom, struct timespec started, struct timespec finished)
{
	char text[192], from[TIMESTAMP + 1] = "", to[TIMESTAMP + 1] = "";
	timestamp(from, started);
	timestamp(to, finished);
	int n = snprintf(text, sizeof text, "code %d\nsignal %d\noom %d\nstarted %s\nfinished %s\n", exit_code_of(status),
	                 WIFSIGNALED(status) ? WTERMSIG(status) : 0, oom, from, to);
	return write_beside(path, text, (size_t)n);
}

unsigned long long oom_kills(const char *path)
{
	char text[1024];
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, "oom_kill ", 9) == 0)
			return strtoull(line + 9, NULL, 10);
	}
	return 0;
}
