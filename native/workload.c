/* workload.c: the end of C: what must be right at exec, and process 1 of a container with `--init`. */
#include "workload.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "executor.h"
#include "init.h"
#include "kernel.h"
#include "ops.h"

/* The letters of init.c. */
enum { FINAL = 'x', READY = 'r' };

static int filter_step = -1;

/* ---- the parent that this process must not outlive ---- */

void workload_arm_parent_signal(void)
{
	if (!ex.parent_signal)
		return;
	SYS(prctl(PR_SET_PDEATHSIG, ex.parent_signal, 0, 0, 0), "pdeathsig");
	/* It may have died before that. getppid() does not tell: from a new pid namespace every parent is 0. */
	struct pollfd parent = { .fd = ex.parent, .events = POLLIN };
	if (ex.parent >= 0 && poll(&parent, 1, 0) > 0)
		_exit(EXIT_FAILED);
}

void op_pdeathsig(int argc, char **argv)
{
	(void)argc;
	ex.parent_signal = (int)decimal(argv[0]);
	workload_arm_parent_signal();
}

/* ---- small ones ---- */

/* A directory outside the root is shown as "(unreachable)/…": it was reached through a descriptor of the host
 * (CVE-2024-21626). The C library's getcwd hides that, so it is asked of the kernel. */
void op_chdir(int argc, char **argv)
{
	(void)argc;
	char path[4096];
	SYS(chdir(argv[0]));
	long n = syscall(SYS_getcwd, path, sizeof path);
	if (n < 0 && errno == ERANGE) /* a path that is longer than that begins with its root nevertheless */
		fail(ENAMETOOLONG, "");
	SYS(n);
	if (path[0] != '/')
		fail(EPERM, "the directory is outside of the container");
}

void op_close_fds(int argc, char **argv)
{
	(void)argc;
	long long first = decimal(argv[0]);
	if (first < 3 || first > 1 << 20)
		fail(EINVAL, "");
	ex.first_closed = (unsigned)first;
}

void op_env(int argc, char **argv)
{
	(void)argc;
	ex.env = argv;
}

void op_reap(int argc, char **argv)
{
	(void)argc, (void)argv;
	ex.reap = true; /* done at exec, when the rights that the reaper must not keep are gone */
}

void workload_before_exec(int step)
{
	filter_step = step;
}

void workload_load_filter(void)
{
	if (filter_step < 0)
		return;
	int here = ex.at;
	ex.at = filter_step; /* a failure is the filter's */
	load_filter_of(&ex.plan.steps[filter_step]);
	ex.at = here;
	filter_step = -1;
}

/* ---- waiting for the start ---- */

/* S need not stay for a container that is created and not started. */
static void ready(void)
{
	if (!report("ready"))
		fail(ECANCELED, "given up");
	init_tell_setter(READY);
}

void op_wait(int argc, char **argv)
{
	(void)argc;
	char byte;
	int fd = (int)decimal(argv[0]);
	ready();
	while (read(fd, &byte, 1) < 0)
		if (errno != EINTR)
			fail(errno, "");
}

/* Through the host's procfs: the container may have none, or its own idea of one. From here on whoever reads the FIFO
 * is told what fails; its end without a word means that the workload has been executed. */
void op_wait_fifo(int argc, char **argv)
{
	(void)argc;
	char name[32];
	snprintf(name, sizeof name, "fd/%d", (int)decimal(argv[0]));
	ready();
	int fd;
	do
		fd = open_proc(0, name, O_WRONLY);
	while (fd < 0 && errno == EINTR);
	SYS(fd);
	if (ex.status >= 0)
		close(ex.status);
	ex.status = fd;
}

/* ---- process 1 of a container with `reap` ------------------------------------------------------------------------
 * The workload's rights and namespaces, no descriptors. Forwards what it is sent to the workload, collects whatever dies in
 * the container, and ends as the workload did; the kernel then kills the rest. */
_Noreturn static void be_reaper(pid_t workload, const sigset_t *signals)
{
	k_close_range(0, ~0U, 0);
	prctl(PR_SET_DUMPABLE, 1); /* nothing of the host is left; who joins the container needs our namespaces */
	for (;;) {
		siginfo_t info;
		int number = sigwaitinfo(signals, &info);
		if (number > 0 && number != SIGCHLD) {
			kill(workload, number);
			continue;
		}
		int status;
		for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
			if (pid == workload && (WIFEXITED(status) || WIFSIGNALED(status)))
				_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	}
}

static void leave_reaper(void)
{
	sigset_t signals;
	sigfillset(&signals);
	SYS(sigprocmask(SIG_BLOCK, &signals, NULL), "signals");
	pid_t pid = fork();
	SYS(pid, "reaper");
	if (pid > 0)
		be_reaper(pid, &signals);
	/* Its own process group, in front of the terminal: the keyboard's signals are the workload's, not the reaper's. */
	setpgid(0, 0);
	signal(SIGTTOU, SIG_IGN);
	tcsetpgrp(0, getpid()); /* fails when there is no terminal */
}

/* ---- exec ---- */

void workload_default_signals(void)
{
	/* By system call: the C library keeps 32 to 34 to itself, and what make(1) starts has them ignored. */
	static const char by_default[64]; /* the kernel's struct sigaction, all of it zero: SIG_DFL */
	sigset_t none;
	for (int number = 1; number <= 64; number++)
		syscall(SYS_rt_sigaction, number, by_default, NULL, (size_t)8); /* KILL and STOP refuse */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void workload_close_at_exec(unsigned first)
{
	if (k_close_range(first, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		return;
	for (int fd = (int)first; fd < 65536; fd++) /* before Linux 5.11 */
		fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static const char *search_path(void)
{
	for (char **word = ex.env; word && *word; word++)
		if (strncmp(*word, "PATH=", 5) == 0)
			return *word + 5;
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

static bool is_directory(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The errno with which execve would fail at once. What it finds in the file is another matter. */
static int try_look(char **argv, const char *path)
{
	struct stat st;
	(void)argv;
	if (access(path, X_OK) < 0 || stat(path, &st) < 0)
		return errno;
	return S_ISREG(st.st_mode) ? 0 : EACCES;
}

static int try_execute(char **argv, const char *path)
{
	static char *nothing[] = { NULL };
	execve(path, argv, ex.env ? ex.env : nothing);
	return errno;
}

/* Like execvpe(3), but what is not executable is not handed to a shell. The errno of the most telling failure. */
static int search(char **argv, int (*try)(char **argv, const char *path))
{
	char path[4096];
	if (strchr(argv[0], '/') || !*argv[0])
		return try(argv, argv[0]);
	int error = ENOENT;
	for (const char *dir = search_path(); dir; dir = *dir ? dir + 1 : NULL) {
		size_t n = strcspn(dir, ":");
		if (n + strlen(argv[0]) + 2 <= sizeof path) {
			snprintf(path, sizeof path, "%.*s%s%s", (int)n, dir, n ? "/" : "", argv[0]);
			int reason = try(argv, path);
			if (reason == EACCES && !is_directory(path))
				error = EACCES;
			else if (reason != ENOENT && reason != ENOTDIR && reason != EACCES)
				return reason;
		}
		dir += n;
	}
	return error;
}

/* A container that waits for its start is to fail before that when its program is not there. */
void op_find_command(int argc, char **argv)
{
	(void)argc;
	int error = search(argv, try_look);
	if (error)
		fail(error, "");
}

void op_exec(int argc, char **argv)
{
	(void)argc;
	workload_arm_parent_signal();
	if (ex.reap) {
		leave_reaper();
		ex.reap = false;
	}
	workload_close_at_exec(ex.first_closed);
	workload_default_signals();
	umask(ex.umask);
	init_tell_setter(FINAL);
	workload_load_filter();
	fail(search(argv, try_execute), "");
}
