/* executor.c: runs the steps of a plan one after the other, and tells who started us how that went. */
#include "executor.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "init.h"
#include "kernel.h"
#include "ops.h"

struct executor ex = { .status = -1, .proc = -1, .root = -1, .cgroup = -1, .cgroup_namespace_of = -1, .listener = -1,
	               .sync = -1, .parent = -1, .child_pidfd = -1, .first_closed = 3 };

/* A failing step comes back here from however deep it was; descriptors it had open close at exec or exit. */
static jmp_buf step_failed;
static bool in_step;
static int failure_errno;
static char failure_text[512];

void executor_start(int status)
{
	struct statfs fs;
	ex.status = status;
	ex.umask = umask(0); /* modes in a plan are meant as they are written */
	if (ex.proc < 0 && (ex.proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
		fail(errno, "/proc");
	SYS(fstatfs(ex.proc, &fs), "/proc");
	if (fs.f_type != K_PROC_MAGIC)
		fail(EINVAL, "/proc is not a procfs");
}

bool report(const char *format, ...)
{
	char text[768];
	va_list list;
	va_start(list, format);
	int n = vsnprintf(text, sizeof text, format, list);
	va_end(list);
	if (ex.quiet)
		return true;
	size_t size = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
	if (ex.status < 0)
		return true;
	if (send(ex.status, text, size, MSG_NOSIGNAL) >= 0)
		return true;
	return errno == ENOTSOCK && write(ex.status, text, size + 1) >= 0; /* the FIFO of a container that is started */
}

static void say(const char *word, const struct step *step, int error, const char *text)
{
	if (ex.status >= 0 || ex.quiet) {
		report("%s %d %d %s", word, step ? ex.at : -1, error, text);
		return;
	}
	dprintf(2, "knarr-native: %s: ", word);
	if (step)
		dprintf(2, "step %d: %s (%s): ", ex.at, step->op->name, step->origin);
	dprintf(2, "%s%s%s\n", text, *text && error ? ": " : "", error || !*text ? strerror(error) : "");
}

_Noreturn void fail(int error, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	vsnprintf(failure_text, sizeof failure_text, format, list);
	va_end(list);
	failure_errno = error;
	if (in_step)
		longjmp(step_failed, 1);
	say("fail", NULL, error, failure_text);
	init_give_up();
}

static bool attempt(const struct step *step)
{
	if (setjmp(step_failed))
		return false;
	in_step = true;
	step->op->run(step->argc, step->argv);
	return true;
}

void executor_run(int end)
{
	for (; ex.at < end; ex.at++) {
		/* Looked up anew each time: `clone` comes back twice, in C with `ex.at` on `enter`. */
		const struct step *step = &ex.plan.steps[ex.at];
		bool done = attempt(step);
		in_step = false;
		if (done)
			continue;
		step = &ex.plan.steps[ex.at];
		say(step->optional ? "warn" : "fail", step, failure_errno, failure_text);
		if (!step->optional)
			init_give_up();
	}
}

int executor_run_all(int first, int end)
{
	int failed = 0;
	for (ex.at = first; ex.at < end; ex.at++) {
		const struct step *step = &ex.plan.steps[ex.at];
		if (!attempt(step)) {
			failed++;
			say("warn", step, failure_errno, failure_text);
		}
		in_step = false;
	}
	return failed;
}

long long decimal(const char *text)
{
	const char *p = text + (*text == '-');
	long long n = 0;
	if (!*p)
		fail(EINVAL, "not a number: '%.40s'", text);
	for (; *p; p++) {
		if (*p < '0' || *p > '9' || __builtin_mul_overflow(n, 10LL, &n) ||
		    __builtin_add_overflow(n, (long long)(*p - '0'), &n))
			fail(EINVAL, "not a number: '%.40s'", text);
	}
	return *text == '-' ? -n : n;
}

unsigned octal(const char *text)
{
	unsigned n = 0;
	if (!*text || strlen(text) > 7)
		fail(EINVAL, "not a mode: '%.40s'", text);
	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '7')
			fail(EINVAL, "not a mode: '%.40s'", text);
		n = n * 8 + (unsigned)(*p - '0');
	}
	return n;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

uint64_t hexadecimal(const char *text)
{
	const char *p = text[0] == '0' && text[1] == 'x' ? text + 2 : text;
	uint64_t n = 0;
	if (!*p || strlen(p) > 16)
		fail(EINVAL, "not a hexadecimal number: '%.40s'", text);
	for (; *p; p++) {
		int digit = hex_digit(*p);
		if (digit < 0)
			fail(EINVAL, "not a hexadecimal number: '%.40s'", text);
		n = n << 4 | (unsigned)digit;
	}
	return n;
}

bool truth(const char *text)
{
	if ((*text != '0' && *text != '1') || text[1])
		fail(EINVAL, "neither 0 nor 1: '%.40s'", text);
	return *text == '1';
}

size_t from_hex(const char *text, unsigned char *bytes, size_t room)
{
	size_t n = strlen(text);
	if (n % 2 || n / 2 > room)
		fail(EINVAL, "binary data of %zu digits", n);
	for (size_t i = 0; i < n / 2; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			fail(EINVAL, "binary data is not hexadecimal");
		bytes[i] = (unsigned char)(high << 4 | low);
	}
	return n / 2;
}

int open_proc(pid_t pid, const char *name, int flags)
{
	char path[128];
	if (pid)
		snprintf(path, sizeof path, "%d/%s", (int)pid, name);
	else
		snprintf(path, sizeof path, "self/%s", name);
	return openat(ex.proc, path, flags | O_CLOEXEC);
}

void write_all_once(int fd, const char *data, size_t size)
{
	ssize_t n = write(fd, data, size);
	SYS(n);
	if ((size_t)n != size)
		fail(EIO, "only %zd of %zu bytes were taken", n, size);
}

pid_t pid_outside(void)
{
	char text[16];
	ssize_t n = readlinkat(ex.proc, "self", text, sizeof text - 1);
	SYS(n, "/proc/self");
	text[n] = '\0';
	return (pid_t)decimal(text);
}

void write_with_pid(int fd, char **parts, int count, pid_t pid)
{
	for (int i = 0; i < count; i++) {
		if (i)
			SYS(dprintf(fd, "%d", (int)pid));
		if (*parts[i])
			write_all_once(fd, parts[i], strlen(parts[i]));
	}
}
