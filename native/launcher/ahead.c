/* ahead.c: `knarr-runtime start` and `delete` without an interpreter.
 *
 * `create` leaves a file `ahead` in the container's directory (src/knarr/runtime/ahead.py), lines of text:
 *
 *   knarr-runtime 1     this layout
 *   pid PID START       the container's process; START is field 22 of /proc/PID/stat
 *   start               starting it is opening its FIFO, and nothing else
 *   delete              deleting it is removing these directories and its own, and nothing else
 *   rmdir PATH          in this order
 *
 * Nothing is decided here. Whatever is not as the file has it (hooks, a process that lives, a report in the FIFO, a flag
 * that is not known, a lock that is held) is left to Python, which begins anew; what the FIFO said is kept in `said` for it. */
#include "ahead.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MOST = 16 * 1024, LONGEST_ID = 255, PYTHONS = -1 };

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

static const char id_letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.";

struct container {
	int directory;
	pid_t pid;
	unsigned long long start;
	bool may_start, may_delete;
	char text[MOST]; /* the file; lines end with NUL once they are read */
	size_t size;
};

/* ---- words ---- */

static bool takes_value(const char *flag)
{
	static const char *const flags[] = { "--root", "--log", "--log-format", "--log-level", "--criu", "--cgroup-manager", "--rootless" };
	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
		if (strcmp(flag, flags[i]) == 0)
			return true;
	return false;
}

/* The global flags; where the command stands, or argc. */
static int globals(int argc, char **argv, const char **root)
{
	int i = 1;
	for (; i < argc && argv[i][0] == '-'; i++) {
		if (strncmp(argv[i], "--root=", 7) == 0)
			*root = argv[i] + 7;
		else if (strcmp(argv[i], "--root") == 0 && i + 1 < argc)
			*root = argv[++i];
		else if (takes_value(argv[i]) && i + 1 < argc)
			i++;
		else if (strcmp(argv[i], "--systemd-cgroup") != 0)
			return argc;
	}
	return i;
}

static bool is_id(const char *text)
{
	size_t n = strlen(text);
	return n > 0 && n <= LONGEST_ID && text[0] != '.' && text[0] != '-' && strspn(text, id_letters) == n;
}

/* ---- the container ---- */

static bool lock(int directory)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct stat st;
	int fd = openat(directory, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW); /* held until this process ends or becomes Python */
	return fd >= 0 && fcntl(fd, F_OFD_SETLK, &whole) == 0 && fstat(fd, &st) == 0 && st.st_nlink > 0;
}

static bool read_file(struct container *c)
{
	int fd = openat(c->directory, "ahead", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, c->text, MOST - 1);
	close(fd);
	if (n <= 0 || n == MOST - 1 || c->text[n - 1] != '\n')
		return false;
	c->size = (size_t)n;
	c->text[n] = 0;
	for (char *p = c->text; (p = strchr(p, '\n'));)
		*p++ = 0;
	if (strcmp(c->text, "knarr-runtime 1") != 0)
		return false;
	for (char *line = c->text; line < c->text + c->size; line += strlen(line) + 1) {
		c->may_start |= strcmp(line, "start") == 0;
		c->may_delete |= strcmp(line, "delete") == 0;
		if (strncmp(line, "pid ", 4) == 0 && sscanf(line, "pid %d %llu", &c->pid, &c->start) != 2)
			return false;
	}
	return c->pid > 0;
}

/* Is it the process that began then, and not a zombie. */
static bool alive(const struct container *c)
{
	char path[32], text[1024];
	snprintf(path, sizeof path, "/proc/%d/stat", (int)c->pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = 0;
	char *at = strrchr(text, ')'); /* the name before it is the process's own choice */
	if (at == NULL || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X')
		return false;
	at += 2;
	for (int field = 3; field < 22 && at; field++)
		if ((at = strchr(at, ' ')))
			at++;
	return at && strtoull(at, NULL, 10) == c->start;
}

/* ---- start ---- */

static void keep(int directory, const char *said, size_t size)
{
	int fd = openat(directory, "said", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0 && write(fd, said, size) != (ssize_t)size)
		unlinkat(directory, "said", 0);
}

/* Does its process still wait, or do its last steps: it has a lock until it is another program. */
static bool waits(const struct container *c)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = openat(c->directory, "waits", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return false;
	bool held = fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
	close(fd);
	return held;
}

static int start(struct container *c)
{
	enum { LOOK_MS = 100 };
	struct stat st;
	if (!c->may_start || fstatat(c->directory, "exec.fifo", &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISFIFO(st.st_mode))
		return PYTHONS;
	int process = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (process < 0 || !alive(c) || !waits(c))
		return PYTHONS;
	/* Without blocking: it may die before it comes to the FIFO. */
	int fifo = openat(c->directory, "exec.fifo", O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (fifo < 0)
		return PYTHONS;
	char said[4096];
	size_t size = 0;
	for (;;) {
		struct pollfd fds[] = { { .fd = fifo, .events = POLLIN }, { .fd = process, .events = POLLIN } };
		int ready = poll(fds, 2, LOOK_MS);
		if (ready < 0 && errno != EINTR)
			break;
		if (ready == 0 && !waits(c)) /* let go by a command that was killed: nobody will write */
			return PYTHONS;
		if (fds[0].revents) {
			ssize_t n = read(fifo, said + size, sizeof said - size);
			if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
				break;
			size += n > 0 ? (size_t)n : 0;
			if (size == sizeof said)
				break;
		} else if (fds[1].revents) {
			return PYTHONS;
		}
	}
	if (size) {
		keep(c->directory, said, size);
		return PYTHONS;
	}
	return unlinkat(c->directory, "exec.fifo", 0);
}

/* ---- delete ---- */

static int delete(struct container *c, const char *path)
{
	if (!c->may_delete || alive(c))
		return PYTHONS;
	for (char *line = c->text; line < c->text + c->size; line += strlen(line) + 1)
		if (strncmp(line, "rmdir ", 6) == 0 && rmdir(line + 6) < 0 && errno != ENOENT)
			return PYTHONS;
	DIR *entries = fdopendir(dup(c->directory));
	if (entries == NULL)
		return PYTHONS;
	for (struct dirent *entry; (entry = readdir(entries));)
		if (entry->d_name[0] != '.' && strcmp(entry->d_name, "lock") != 0)
			unlinkat(c->directory, entry->d_name, 0);
	unlinkat(c->directory, "lock", 0); /* last: who waits for it sees that it is gone */
	return rmdir(path);
}

int ahead(int argc, char **argv)
{
	static struct container c;
	const char *root = geteuid() == 0 && getenv("XDG_RUNTIME_DIR") == NULL ? "/run/knarr-runtime" : NULL;
	int at = globals(argc, argv, &root);
	if (at + 2 != argc || root == NULL || *root == 0 || !is_id(argv[at + 1]))
		return PYTHONS;
	bool starts = strcmp(argv[at], "start") == 0;
	if (!starts && strcmp(argv[at], "delete") != 0)
		return PYTHONS;
	char path[4096];
	if (snprintf(path, sizeof path, "%s/%s", root, argv[at + 1]) >= (int)sizeof path)
		return PYTHONS;
	c.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (c.directory < 0 || !lock(c.directory) || !read_file(&c))
		return PYTHONS;
	return starts ? start(&c) : delete(&c, path);
}
