/* namespaces.c: entering and leaving namespaces. */
#include "namespaces.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "executor.h"
#include "kernel.h"
#include "ops.h"
#include "process_start.h"

static const struct {
	const char *name;
	uint64_t flag;
} kinds[] = {
	{ "user", CLONE_NEWUSER }, { "mnt", CLONE_NEWNS }, { "pid", CLONE_NEWPID }, { "net", CLONE_NEWNET },
	{ "ipc", CLONE_NEWIPC }, { "uts", CLONE_NEWUTS }, { "cgroup", CLONE_NEWCGROUP }, { "time", CLONE_NEWTIME },
};

static uint64_t kind(const char *name, size_t length)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strlen(kinds[i].name) == length && memcmp(kinds[i].name, name, length) == 0)
			return kinds[i].flag;
	fail(EINVAL, "unknown kind of namespace: '%.*s'", (int)(length < 40 ? length : 40), name);
}

uint64_t namespace_kinds(const char *names)
{
	uint64_t flags = 0;
	while (*names) {
		size_t length = strcspn(names, ",");
		flags |= kind(names, length);
		names += length + (names[length] == ',');
	}
	return flags;
}

/* While a process is half in the container and half out of it, nobody in there may get at it through /proc or ptrace.
 * exec makes it dumpable again. */
void hide_from_others(void)
{
	SYS(prctl(PR_SET_DUMPABLE, 0), "prctl");
}

void op_join(int argc, char **argv)
{
	(void)argc;
	uint64_t flag = namespace_kinds(argv[0]);
	int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	SYS(fd);
	hide_from_others();
	SYS(setns(fd, (int)flag));
	ex.joined_mnt |= flag == CLONE_NEWNS;
	close(fd);
}

void op_join_pid(int argc, char **argv)
{
	pid_t pid = (pid_t)decimal(argv[0]);
	uint64_t flags = namespace_kinds(argv[2]);
	int fd = k_pidfd_open(pid);
	SYS(fd);
	/* The descriptor came first: if the number means the right process now, it did when the descriptor was opened. */
	if (process_start(ex.proc, pid) != (unsigned long long)decimal(argv[1]))
		fail(ESRCH, "");
	hide_from_others();
	if (ex.cgroup >= 0 && flags & CLONE_NEWCGROUP) {
		/* From inside that namespace the kernel would not find the way from our own cgroup to C's (ENOENT, where the
		 * hierarchy is mounted with `nsdelegate`, as systemd does): C joins it, once it is there. */
		flags &= ~(uint64_t)CLONE_NEWCGROUP;
		SYS(ex.cgroup_namespace_of = fcntl(fd, F_DUPFD_CLOEXEC, 3));
	}
	if (argc > 3) {
		SYS(ex.root = open_proc(pid, "root", O_PATH | O_DIRECTORY), "root");
		if (process_start(ex.proc, pid) != (unsigned long long)decimal(argv[1]))
			fail(ESRCH, "");
	}
	if (flags)
		SYS(setns(fd, (int)flags));
	ex.joined_mnt |= (flags & CLONE_NEWNS) != 0;
	close(fd);
}

void op_unshare(int argc, char **argv)
{
	(void)argc;
	SYS(unshare((int)namespace_kinds(argv[0])));
}

static void write_maps(int process, const char *name, const char *maps)
{
	char text[4096];
	size_t n = strlen(maps);
	if (n >= sizeof text)
		fail(E2BIG, "%s", name);
	memcpy(text, maps, n + 1);
	for (char *p = text; *p; p++)
		if (*p == ',')
			*p = '\n';
	int fd = openat(process, name, O_WRONLY | O_CLOEXEC);
	SYS(fd, "user namespace of the mount");
	write_all_once(fd, text, n);
	close(fd);
}

/* A child in a new user namespace opens its own directory in the host's procfs (it may have another pid there than
 * the one we know) into the file table it shares with us, and waits to be killed. */
int mapped_user_namespace(const char *uid_maps, const char *gid_maps)
{
	int ready[2], pidfd = -1;
	SYS(pipe2(ready, O_CLOEXEC), "pipe");
	struct k_clone_args args = { .flags = CLONE_NEWUSER | CLONE_FILES | CLONE_PIDFD, .exit_signal = SIGCHLD,
		                     .pidfd = (uint64_t)(uintptr_t)&pidfd };
	pid_t pid = k_clone3(&args);
	SYS(pid, "user namespace of the mount");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* should a step fail below */
		int process = openat(ex.proc, "self", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (write(ready[1], &process, sizeof process) != sizeof process)
			_exit(1);
		for (;;)
			pause();
	}
	int process = -1;
	ssize_t n = read(ready[0], &process, sizeof process);
	int namespace = -1;
	if (n == sizeof process && process >= 0) {
		write_maps(process, "uid_map", uid_maps);
		write_maps(process, "gid_map", gid_maps);
		namespace = openat(process, "ns/user", O_RDONLY | O_CLOEXEC);
		close(process);
	}
	int error = errno;
	k_pidfd_signal(pidfd, SIGKILL);
	waitpid(pid, NULL, 0);
	close(pidfd);
	close(ready[0]);
	close(ready[1]);
	if (namespace < 0)
		fail(error, "user namespace of the mount");
	return namespace;
}
