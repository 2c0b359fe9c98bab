/* settings.c: what the kernel keeps per process or per namespace besides rights: limits, priorities, names. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <unistd.h>

#include "executor.h"
#include "kernel.h"
#include "ops.h"

void op_new_session(int argc, char **argv)
{
	(void)argc, (void)argv;
	if (setsid() < 0 && getsid(0) != getpid())
		fail(errno, "");
}

void op_keyring(int argc, char **argv)
{
	(void)argc;
	enum { JOIN_SESSION_KEYRING = 1 };
	if (syscall(SYS_keyctl, JOIN_SESSION_KEYRING, argv[0]) < 0 && errno != ENOSYS && errno != EPERM)
		fail(errno, "");
}

/* Written through the host's procfs, which was verified at the start: the container's may be a forgery that sends the
 * value elsewhere. /proc/sys shows each process its own namespaces, wherever it is mounted. */
void op_sysctl(int argc, char **argv)
{
	(void)argc;
	int sys = openat(ex.proc, "sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	SYS(sys);
	int fd = k_openat2(sys, argv[0], O_WRONLY | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
	SYS(fd);
	write_all_once(fd, argv[1], strlen(argv[1]));
	close(fd);
	close(sys);
}

void op_hostname(int argc, char **argv)
{
	(void)argc;
	SYS(sethostname(argv[0], strlen(argv[0])));
}

void op_domainname(int argc, char **argv)
{
	(void)argc;
	SYS(setdomainname(argv[0], strlen(argv[0])));
}

static const struct {
	const char *name;
	int number;
} limits[] = {
	{ "as", RLIMIT_AS }, { "core", RLIMIT_CORE }, { "cpu", RLIMIT_CPU }, { "data", RLIMIT_DATA },
	{ "fsize", RLIMIT_FSIZE }, { "locks", RLIMIT_LOCKS }, { "memlock", RLIMIT_MEMLOCK }, { "msgqueue", RLIMIT_MSGQUEUE },
	{ "nice", RLIMIT_NICE }, { "nofile", RLIMIT_NOFILE }, { "nproc", RLIMIT_NPROC }, { "rss", RLIMIT_RSS },
	{ "rtprio", RLIMIT_RTPRIO }, { "rttime", RLIMIT_RTTIME }, { "sigpending", RLIMIT_SIGPENDING },
	{ "stack", RLIMIT_STACK },
};

static rlim_t limit(const char *text)
{
	if (strcmp(text, "-1") == 0)
		return RLIM_INFINITY;
	char *end;
	errno = 0;
	unsigned long long n = strtoull(text, &end, 10);
	if (*end || end == text || errno || *text == '-')
		fail(EINVAL, "not a limit: '%.40s'", text);
	return n;
}

void op_rlimit(int argc, char **argv)
{
	(void)argc;
	size_t i = 0;
	while (i < sizeof limits / sizeof *limits && strcmp(limits[i].name, argv[0]) != 0)
		i++;
	if (i == sizeof limits / sizeof *limits)
		fail(EINVAL, "unknown limit %.40s", argv[0]);
	struct rlimit old, new = { .rlim_cur = limit(argv[1]), .rlim_max = limit(argv[2]) };
	if (setrlimit(limits[i].number, &new) == 0)
		return;
	int error = errno;
	if (error == EPERM && getrlimit(limits[i].number, &old) == 0) {
		/* Raising needs CAP_SYS_RESOURCE on the host. Go as far as we may, and still say that it was not all. */
		if (new.rlim_max > old.rlim_max)
			new.rlim_max = old.rlim_max;
		if (new.rlim_cur > new.rlim_max)
			new.rlim_cur = new.rlim_max;
		setrlimit(limits[i].number, &new);
	}
	fail(error, "");
}

void op_oom_score(int argc, char **argv)
{
	(void)argc;
	int fd = open_proc(0, "oom_score_adj", O_WRONLY);
	SYS(fd);
	write_all_once(fd, argv[0], strlen(argv[0]));
	close(fd);
}

void op_personality(int argc, char **argv)
{
	(void)argc;
	SYS(personality(hexadecimal(argv[0])));
}

void op_scheduler(int argc, char **argv)
{
	(void)argc;
	struct { /* sched_setattr(2) */
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
		uint32_t util_min, util_max;
	} attr = {
		.size = sizeof attr,
		.policy = (uint32_t)decimal(argv[0]),
		.flags = (uint64_t)decimal(argv[1]),
		.nice = (int32_t)decimal(argv[2]),
		.priority = (uint32_t)decimal(argv[3]),
		.runtime = (uint64_t)decimal(argv[4]),
		.deadline = (uint64_t)decimal(argv[5]),
		.period = (uint64_t)decimal(argv[6]),
	};
	SYS(syscall(SYS_sched_setattr, 0, &attr, 0));
}

void op_ioprio(int argc, char **argv)
{
	(void)argc;
	enum { WHO_PROCESS = 1, CLASS_SHIFT = 13, CLASSES = 8 };
	long long class = decimal(argv[0]), level = decimal(argv[1]);
	if (class < 0 || class >= CLASSES || level < 0 || level >= 1 << CLASS_SHIFT)
		fail(EINVAL, "");
	SYS(syscall(SYS_ioprio_set, WHO_PROCESS, 0, (int)(class << CLASS_SHIFT | level)));
}

static const char *number(const char *p, unsigned most, unsigned *value)
{
	char *end;
	unsigned long n = strtoul(p, &end, 10);
	if (end == p || *p < '0' || *p > '9' || n >= most)
		fail(EINVAL, "not a list of numbers below %u", most);
	*value = (unsigned)n;
	return end;
}

/* "0-3,7" as bits, in words as the kernel counts them. */
static void read_list(const char *text, unsigned long *mask, size_t bytes)
{
	enum { BITS = 8 * sizeof *mask };
	unsigned most = (unsigned)bytes * 8;
	memset(mask, 0, bytes);
	for (const char *p = text; *p; p += *p == ',') {
		unsigned first, last;
		p = number(p, most, &first);
		last = first;
		if (*p == '-')
			p = number(p + 1, most, &last);
		if ((*p && *p != ',') || last < first)
			fail(EINVAL, "not a list of numbers below %u", most);
		for (unsigned n = first; n <= last; n++)
			mask[n / BITS] |= 1UL << n % BITS;
	}
}

void op_affinity(int argc, char **argv)
{
	(void)argc;
	static unsigned long mask[CPU_SETSIZE / sizeof(unsigned long)];
	read_list(argv[0], mask, sizeof mask);
	SYS(syscall(SYS_sched_setaffinity, 0, sizeof mask, mask));
}

void op_mempolicy(int argc, char **argv)
{
	(void)argc;
	static unsigned long nodes[1024 / 8 / sizeof(unsigned long)];
	read_list(argv[1], nodes, sizeof nodes);
	/* One more than there are bits: set_mempolicy(2) does not count the last. */
	SYS(syscall(SYS_set_mempolicy, (int)decimal(argv[0]), *argv[1] ? nodes : NULL, *argv[1] ? sizeof nodes * 8 + 1 : 0UL));
}
