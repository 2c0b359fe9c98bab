/* spawn.c: helper programs of the host (newuidmap, newgidmap) that run beside S. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "executor.h"
#include "ops.h"
#include "workload.h"

enum { MOST = 8 };

static struct {
	pid_t pid;
	int errors; /* its standard error */
} spawned[MOST];
static int running;

static char **with_pid(int argc, char **argv, char words[][64], int room)
{
	static char *result[64];
	int used = 0;
	if (argc >= (int)(sizeof result / sizeof *result))
		fail(E2BIG, "");
	for (int i = 0; i < argc; i++) {
		char *mark = strstr(argv[i], "{pid}");
		result[i] = argv[i];
		if (!mark)
			continue;
		if (ex.child <= 0 || used == room)
			fail(EINVAL, "no process to name");
		int n = snprintf(words[used], 64, "%.*s%d%s", (int)(mark - argv[i]), argv[i], (int)ex.child, mark + 5);
		if (n >= 64)
			fail(E2BIG, "");
		result[i] = words[used++];
	}
	result[argc] = NULL;
	return result;
}

void op_spawn(int argc, char **argv)
{
	char words[4][64];
	int errors[2];
	if (running == MOST)
		fail(EAGAIN, "");
	/* After joining a container's mount namespace the program would be the container's, with our privileges. */
	if (ex.joined_mnt)
		fail(EPERM, "");
	char **command = with_pid(argc, argv, words, 4);
	SYS(pipe2(errors, O_CLOEXEC), "pipe");
	pid_t pid = fork();
	SYS(pid, "fork");
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (dup2(null, 0) < 0 || dup2(errors[1], 1) < 0 || dup2(errors[1], 2) < 0)
			_exit(127);
		workload_default_signals();
		umask(ex.umask);
		execvp(command[0], command);
		dprintf(2, "%s: %s", command[0], strerror(errno));
		_exit(127);
	}
	close(errors[1]);
	spawned[running].pid = pid;
	spawned[running++].errors = errors[0];
}

void op_wait_spawned(int argc, char **argv)
{
	(void)argc, (void)argv;
	char text[400], first[400] = "";
	bool bad = false;
	for (int i = 0; i < running; i++) {
		size_t have = 0;
		for (ssize_t n; (n = read(spawned[i].errors, text + have, sizeof text - 1 - have)) > 0;)
			have += (size_t)n;
		close(spawned[i].errors); /* when it says more than we keep, let it not wait for us */
		text[have] = '\0';
		int status;
		SYS(waitpid(spawned[i].pid, &status, 0), "waitpid");
		if (status == 0 || bad)
			continue;
		bad = true;
		memcpy(first, text, have + 1);
	}
	running = 0;
	if (bad)
		fail(ECHILD, "%s", first);
}
