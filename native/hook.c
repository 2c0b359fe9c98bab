/* hook.c: programs that somebody wants run at a point of the set-up, and that must have ended well before it goes on. */
#include <ctype.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "executor.h"
#include "kernel.h"
#include "ops.h"
#include "workload.h"

extern char **environ;

enum { KEPT = 400, UNSEEN_MS = 50 };

struct hook {
	const char *path, *directory;
	char **argv, **env;
	int input, output[2], failure[2];
	pid_t pid;
	int pidfd;
	char text[KEPT + 1]; /* what it says, as far as it is kept */
	size_t size;
};

/* What it reads: a file in memory, so that nobody need wait for whether it reads at all. */
static int document(char **parts, int count)
{
	int fd = memfd_create("hook", MFD_CLOEXEC);
	SYS(fd, "standard input");
	/* S and C may know the same process by two numbers: each says its own (runtime.md, State). */
	write_with_pid(fd, parts, count, ex.in_child || ex.child <= 0 ? getpid() : ex.child);
	SYS(lseek(fd, 0, SEEK_SET), "standard input");
	return fd;
}

/* `count` words as an own vector, as execve wants it. */
static char **vector(char **words, long long count)
{
	size_t bytes = ((size_t)count + 1) * sizeof *words;
	char **copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED)
		fail(ENOMEM, "");
	memcpy(copy, words, (size_t)count * sizeof *words);
	return copy;
}

/* ---- the program's process: S's or C's namespaces and rights; of descriptors only its three ---- */
_Noreturn static void become(const struct hook *h)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	if (dup2(h->input, 0) == 0 && dup2(h->output[1], 1) == 1 && dup2(h->output[1], 2) == 2 &&
	    (!*h->directory || chdir(h->directory) == 0)) {
		workload_close_at_exec(3);
		workload_default_signals();
		umask(ex.umask);
		execve(h->path, h->argv, h->env);
	}
	int error = errno;
	_exit(write(h->failure[1], &error, sizeof error) == sizeof error ? 127 : 126);
}

static void keep_output(struct hook *h)
{
	char more[512];
	for (ssize_t n; (n = read(h->output[0], more, sizeof more)) > 0;) {
		size_t room = KEPT - h->size;
		size_t kept = (size_t)n < room ? (size_t)n : room;
		memcpy(h->text + h->size, more, kept);
		h->size += kept;
	}
}

static long long now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Its exit status, or -1 when its time was up: it and what it started in its process group are killed then. It has ended
 * when its process has, whoever else may hold the other end of its output. */
static int status_within(struct hook *h, long long seconds)
{
	long long end = now_ms() + seconds * 1000;
	for (int status;;) {
		pid_t ended = waitpid(h->pid, &status, WNOHANG);
		SYS(ended, "waitpid");
		keep_output(h);
		if (ended == h->pid)
			return status;
		long long left = seconds ? end - now_ms() : -1;
		if (seconds && left <= 0) {
			kill(-h->pid, SIGKILL);
			kill(h->pid, SIGKILL);
			SYS(waitpid(h->pid, &status, 0), "waitpid");
			return -1;
		}
		/* A seccomp filter may deny the pidfd: then it is looked after now and then. */
		if (h->pidfd < 0 && (left < 0 || left > UNSEEN_MS))
			left = UNSEEN_MS;
		struct pollfd either[2] = { { .fd = h->pidfd, .events = POLLIN }, { .fd = h->output[0], .events = POLLIN } };
		poll(either, 2, left > 1 << 30 ? 1 << 30 : (int)left);
		if (either[1].revents & POLLHUP && !(either[1].revents & POLLIN)) {
			close(h->output[0]); /* it has closed its output, and lives on */
			h->output[0] = -1;
		}
	}
}

static void start(struct hook *h)
{
	SYS(pipe2(h->output, O_CLOEXEC | O_NONBLOCK), "pipe");
	SYS(pipe2(h->failure, O_CLOEXEC), "pipe");
	SYS(fcntl(h->output[1], F_SETFL, 0), "pipe"); /* only our own end does not wait */
	SYS(h->pid = fork(), "fork");
	if (h->pid == 0)
		become(h);
	setpgid(h->pid, h->pid); /* it does so too: whoever comes first */
	h->pidfd = k_pidfd_open(h->pid);
	close(h->output[1]);
	close(h->failure[1]);
	close(h->input);
}

static const char *lower_case(const char *text)
{
	static char copy[64];
	size_t n = 0;
	for (; text && text[n] && n < sizeof copy - 1; n++)
		copy[n] = (char)tolower((unsigned char)text[n]);
	copy[n] = '\0';
	return copy;
}

/* path timeout directory before after environment-count(-: inherited) environment… arguments… */
void op_hook(int argc, char **argv)
{
	struct hook h = { .path = argv[0], .directory = argv[2] };
	long long seconds = decimal(argv[1]), variables = strcmp(argv[5], "-") == 0 ? -1 : decimal(argv[5]);
	char **rest = argv + 6;
	int count = argc - 6;
	if (seconds < 0 || seconds > 1LL << 40 || variables > count || (variables < 0 && argv[5][1]))
		fail(EINVAL, "");
	if (variables >= 0) {
		h.env = vector(rest, variables);
		rest += variables;
		count -= (int)variables;
	} else {
		h.env = ex.env ? ex.env : environ;
	}
	h.argv = count ? vector(rest, count) : vector(argv, 1);
	h.input = document(argv + 3, 2);
	start(&h);
	int status = status_within(&h, seconds), error;
	bool never = read(h.failure[0], &error, sizeof error) == sizeof error;
	close(h.failure[0]);
	if (h.pidfd >= 0)
		close(h.pidfd);
	if (h.output[0] >= 0)
		close(h.output[0]);
	h.text[h.size] = '\0';
	const char *colon = h.size ? ": " : "";
	if (status == -1)
		fail(ETIMEDOUT, "timed out after %lld s%s%s", seconds, colon, h.text);
	if (never)
		fail(error, "");
	if (WIFSIGNALED(status))
		fail(0, "killed by signal %d (%s)%s%s", WTERMSIG(status), lower_case(strsignal(WTERMSIG(status))), colon, h.text);
	if (status)
		fail(0, "exit status %d%s%s", WEXITSTATUS(status), colon, h.text);
}
