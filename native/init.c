/* init.c: the processes S and C of docs/plan.md, and how they wait for each other. */
#include "init.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "executor.h"
#include "kernel.h"
#include "listener.h"
#include "namespaces.h"
#include "ops.h"
#include "seal.h"

/* What C tells S over the pair, one letter each. The end of the pair after FINAL means: the workload runs. */
enum { GO = 'g', FINAL = 'x', READY = 'r', FAILED = 'f', BORN = 'b' };

extern char **environ;

_Noreturn static void usage(void)
{
	dprintf(2, "usage: knarr-native init PLAN_FD [STATUS_FD|-] [wait]\n");
	exit(EXIT_FAILED);
}

static int descriptor(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);
	if (*end || end == text || n < 0 || n > 1 << 20 || fcntl((int)n, F_SETFD, FD_CLOEXEC) < 0)
		usage();
	return (int)n;
}

/* ---- S, the setter ------------------------------------------------------------------------------------------------
 * Namespaces and privileges of whoever started us; a single thread. Runs from a sealed copy of the program.
 * Waits for C between `enter` and C's exec; who started us waits for the end of the status connection. */
int init_main(int argc, char **argv)
{
	if (argc < 2 || argc > 4 || (argc == 4 && strcmp(argv[3], "wait") != 0))
		usage();
	if (!sealed()) {
		char *words[] = { argv[-1], argv[0], argv[1], argc > 2 ? argv[2] : NULL, argc > 3 ? argv[3] : NULL, NULL };
		seal_and_exec(words, environ);
		dprintf(2, "knarr-native: cannot run from a sealed copy: %s\n", strerror(errno));
		return EXIT_FAILED;
	}
	int plan = descriptor(argv[1]);
	executor_start(argc > 2 && strcmp(argv[2], "-") != 0 ? descriptor(argv[2]) : -1);
	ex.waits = argc > 3;
	signal(SIGPIPE, SIG_IGN); /* a report that nobody reads any more; the workload gets it back */
	struct plan_error error;
	if (!plan_read(plan, &ex.plan, &error)) {
		if (ex.status < 0)
			dprintf(2, "knarr-native: step %d: %s: %s\n", error.step, error.text, strerror(error.error));
		report("fail %d %d %s", error.step, error.error, error.text);
		return EXIT_FAILED;
	}
	close(plan);
	executor_run(ex.plan.count);
	if (ex.in_child)
		fail(EINVAL, "the plan ends without exec");
	return 0;
}

_Noreturn void init_become(int plan, int status, char **env)
{
	char numbers[2][12];
	snprintf(numbers[0], sizeof numbers[0], "%d", plan);
	snprintf(numbers[1], sizeof numbers[1], "%d", status);
	char *words[] = { "knarr-native", "init", numbers[0], numbers[1], NULL };
	seal_and_exec(words, env);
	_exit(EXIT_FAILED);
}

_Noreturn void init_give_up(void)
{
	if (ex.in_child) {
		init_tell_setter(FAILED);
	} else if (ex.child > 0) {
		k_pidfd_signal(ex.child_pidfd, SIGKILL);
		if (ex.waits)
			waitpid(ex.child, NULL, 0);
	}
	_exit(EXIT_FAILED);
}

void init_tell_setter(char letter)
{
	if (ex.sync >= 0) /* S may be gone: it does not wait for a container that is created and not started */
		send(ex.sync, &letter, 1, MSG_NOSIGNAL);
}

/* The offsets of a time namespace can be set only before a process is in it, and `clone` puts C there at once. So S
 * makes it for its children. Where it may not (no privilege on the host), C makes it: exec then enters it (Linux 6.3). */
static bool new_time_namespace(void)
{
	if (unshare(CLONE_NEWTIME) < 0) {
		if (errno != EPERM)
			fail(errno, "time namespace");
		return false;
	}
	for (int i = ex.at; i < ex.plan.count; i++) {
		const struct step *step = &ex.plan.steps[i];
		if (step->op->run != op_write_child || strcmp(step->argv[0], "timens_offsets") != 0)
			continue;
		int fd = open_proc(0, "timens_offsets", O_WRONLY);
		SYS(fd, "timens_offsets");
		write_all_once(fd, step->argv[1], strlen(step->argv[1]));
		close(fd);
	}
	return true;
}

static bool time_is_set;

void op_clone(int argc, char **argv)
{
	(void)argc;
	uint64_t kinds = namespace_kinds(argv[0]), flags = kinds & ~(uint64_t)CLONE_NEWTIME;
	bool late_time = false;
	if (kinds & CLONE_NEWTIME)
		late_time = !(time_is_set = new_time_namespace());
	/* A new cgroup namespace has the cgroup of the process that makes it as its root: that must be C once it is there. */
	bool late_cgroup = ex.cgroup >= 0 && kinds & CLONE_NEWCGROUP;
	if (late_cgroup)
		flags &= ~(uint64_t)CLONE_NEWCGROUP;

	int pair[2], pidfd = -1;
	SYS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
	pid_t parent = ex.waits ? getpid() : getppid();
	ex.parent = k_pidfd_open(parent);
	struct k_clone_args args = {
		.flags = flags | CLONE_PIDFD | (ex.waits ? 0U : (unsigned)CLONE_PARENT) | (ex.cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = ex.waits ? SIGCHLD : 0,
		.cgroup = ex.cgroup >= 0 ? (uint64_t)ex.cgroup : 0,
	};
	pid_t pid = k_clone3(&args);
	SYS(pid);
	if (pid > 0) {
		close(pair[1]);
		ex.sync = pair[0];
		ex.child = pid;
		ex.child_pidfd = pidfd;
		report("pid %d", (int)pid);
		char letter;
		if (late_time && recv(ex.sync, &letter, 1, 0) != 1)
			fail(EPERM, "time namespace");
		return;
	}

	/* ---- C, the container's first process ----------------------------------------------------------------------
	 * In its new namespaces, as a copy of S; child of S's parent (of S with `wait`). In a new user namespace it is
	 * nobody until S has written the maps. It waits for GO, and must not live on when S dies before that. */
	ex.in_child = true;
	close(pair[0]);
	if (ex.cgroup >= 0)
		close(ex.cgroup); /* it was born there */
	ex.sync = pair[1];
	if (late_time) {
		SYS(unshare(CLONE_NEWTIME), "time namespace");
		init_tell_setter(BORN);
	}
	char letter;
	if (recv(ex.sync, &letter, 1, 0) != 1)
		_exit(EXIT_FAILED);
	if (late_cgroup)
		SYS(unshare(CLONE_NEWCGROUP), "cgroup namespace");
	if (ex.cgroup_namespace_of >= 0)
		SYS(setns(ex.cgroup_namespace_of, CLONE_NEWCGROUP), "cgroup namespace");
	ex.at = plan_find(&ex.plan, ex.at, "enter"); /* C goes on behind it */
}

void op_write_child(int argc, char **argv)
{
	(void)argc;
	if (time_is_set && strcmp(argv[0], "timens_offsets") == 0)
		return;
	int fd = open_proc(ex.child, argv[0], O_WRONLY);
	SYS(fd);
	write_all_once(fd, argv[1], strlen(argv[1]));
	close(fd);
}

void op_pause(int argc, char **argv)
{
	(void)argc;
	char answer[64];
	if (ex.status < 0)
		fail(EBADF, "nobody to wait for");
	pid_t pid = ex.in_child ? pid_outside() : ex.child > 0 ? ex.child : getpid();
	if (!report("pause %s %d", argv[0], (int)pid))
		fail(ECANCELED, "given up");
	ssize_t n = recv(ex.status, answer, sizeof answer, 0);
	SYS(n);
	if (n == 0)
		fail(ECANCELED, "given up");
}

/* ---- S after `enter` ----------------------------------------------------------------------------------------------
 * Waits until C has executed its workload, has failed (C reports that itself), or is ready and waits for its start.
 * With `wait` it then stays: forwards signals, exits as C did. */
static bool workload_runs(void)
{
	for (bool final = false;;) {
		char letter;
		ssize_t n = recv(ex.sync, &letter, 1, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 1 && letter == FINAL)
			final = true;
		else if (n == 1 && letter == READY && !ex.waits)
			return true;
		else if (n == 1 && letter == FAILED)
			return false;
		else if (n <= 0 && !final)
			fail(ESRCH, "the container's process was killed while it was set up");
		else if (n <= 0)
			return true;
	}
}

static int exit_code(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

_Noreturn static void wait_for_workload(int signals)
{
	struct signalfd_siginfo info;
	for (;;) {
		int status;
		pid_t pid;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == ex.child)
				_exit(exit_code(status));
		if (read(signals, &info, sizeof info) != sizeof info)
			continue;
		/* A terminal has sent its signals to C too (same process group). */
		if (info.ssi_signo != SIGCHLD && info.ssi_code <= 0)
			k_pidfd_signal(ex.child_pidfd, (int)info.ssi_signo);
	}
}

void op_enter(int argc, char **argv)
{
	(void)argc, (void)argv;
	int signals = -1;
	listener_leave_to_child();
	if (ex.waits) {
		static const int kept[] = { SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGTSTP, SIGTTIN, SIGTTOU };
		sigset_t all;
		sigfillset(&all);
		for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
			sigdelset(&all, kept[i]);
		SYS(sigprocmask(SIG_BLOCK, &all, NULL), "signals");
		SYS(signals = signalfd(-1, &all, SFD_CLOEXEC), "signals");
	}
	char go = GO;
	if (send(ex.sync, &go, 1, MSG_NOSIGNAL) != 1)
		fail(errno, "the container's process has died");
	bool runs = workload_runs();
	if (!ex.waits)
		_exit(runs ? 0 : EXIT_FAILED);
	if (!runs) {
		waitpid(ex.child, NULL, 0);
		_exit(EXIT_FAILED);
	}
	close(ex.status);
	ex.status = -1;
	wait_for_workload(signals);
}
