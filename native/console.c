/* console.c: the standard descriptors: a terminal of the container's own, or what was inherited. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <termios.h>
#include <unistd.h>

#include "beneath.h"
#include "executor.h"
#include "kernel.h"
#include "mounts.h"
#include "ops.h"
#include "pass_fd.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif

static dev_t our_terminal;

bool fd_is_our_terminal(int fd)
{
	struct stat st;
	return our_terminal && fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == our_terminal;
}

/* A new terminal. What lies at /dev/pts may be a forgery: it has to be the multiplexer of a devpts. */
static int open_master(void)
{
	struct stat st;
	struct statfs fs;
	int unlocked = 0;
	int handle = in_open("/dev/pts/ptmx", O_PATH);
	SYS(handle, "/dev/pts/ptmx");
	SYS(fstat(handle, &st), "/dev/pts/ptmx");
	SYS(fstatfs(handle, &fs), "/dev/pts/ptmx");
	if (fs.f_type != K_DEVPTS_MAGIC || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2))
		fail(ENXIO, "/dev/pts/ptmx is not of a devpts");
	char name[32];
	snprintf(name, sizeof name, "self/fd/%d", handle);
	int master = openat(ex.proc, name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	SYS(master, "/dev/pts/ptmx");
	SYS(ioctl(master, TIOCSPTLCK, &unlocked), "unlock");
	close(handle);
	return master;
}

static void set_size(int terminal, const char *rows, const char *columns)
{
	struct winsize size = { .ws_row = (unsigned short)decimal(rows), .ws_col = (unsigned short)decimal(columns) };
	if (size.ws_row || size.ws_col)
		SYS(ioctl(terminal, TIOCSWINSZ, &size), "size");
}

static void be_standard(int fd, int number)
{
	SYS(dup2(fd, number), "standard descriptor %d", number);
}

/* What the image has there may be a link: the terminal would cover what it leads to (CVE-2025-52565, CVE-2026-88264). */
static int console_target(void)
{
	char name[256];
	struct stat st;
	int parent = in_parent("/dev/console", name);
	int made = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0600);
	if (made >= 0)
		close(made);
	else if (errno != EEXIST)
		fail(errno, "/dev/console");
	int there = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	SYS(there, "/dev/console");
	SYS(fstat(there, &st), "/dev/console");
	if (S_ISLNK(st.st_mode))
		fail(ELOOP, "/dev/console");
	close(parent);
	return there;
}

/* A line feed stays one: whoever takes the master makes of it what its own terminal needs. Before the workload is there. */
static void leave_line_feeds(int terminal)
{
	struct termios mode;
	SYS(tcgetattr(terminal, &mode), "terminal");
	mode.c_oflag &= ~(tcflag_t)ONLCR;
	SYS(tcsetattr(terminal, TCSANOW, &mode), "terminal");
}

void op_console(int argc, char **argv)
{
	int master = open_master();
	/* The other end comes from the master itself, not from a name (ioctl_tty(2)). */
	int terminal = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	SYS(terminal, "terminal");
	set_size(terminal, argv[1], argv[2]);
	if (argc > 4 && truth(argv[4]))
		leave_line_feeds(terminal);
	if (truth(argv[3])) {
		int tree = k_open_tree(terminal, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
		SYS(tree, "/dev/console");
		attach(tree, console_target());
	}
	SYS(pass_fd((int)decimal(argv[0]), master, "terminal"), "socket");
	close(master);
	struct stat st;
	SYS(fstat(terminal, &st), "terminal");
	our_terminal = st.st_rdev;
	for (int fd = 0; fd < 3; fd++)
		be_standard(terminal, fd);
	close(terminal);
	if (setsid() < 0 && getsid(0) != getpid())
		fail(errno, "session");
	SYS(ioctl(0, TIOCSCTTY, 0), "controlling terminal");
}

/* A /dev/null of the host's at a standard descriptor becomes the container's: the other keeps a mount of the host's in use
 * that nobody who writes the process to disk could name. */
void op_own_null(int argc, char **argv)
{
	(void)argc, (void)argv;
	const dev_t null = makedev(1, 3);
	struct stat st;
	int handle = in_open("/dev/null", O_PATH);
	if (handle < 0)
		return; /* it has none */
	SYS(fstat(handle, &st), "/dev/null");
	if (S_ISCHR(st.st_mode) && st.st_rdev == null) {
		char name[32];
		snprintf(name, sizeof name, "self/fd/%d", handle);
		int own = openat(ex.proc, name, O_RDWR | O_CLOEXEC);
		for (int fd = 0; own >= 0 && fd < 3; fd++)
			if (fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == null)
				be_standard(own, fd);
		if (own >= 0)
			close(own);
	}
	close(handle);
}

void op_stdio(int argc, char **argv)
{
	(void)argc;
	int from[3];
	/* All are copied out of the way first, so that "1 0 2" swaps. */
	for (int i = 0; i < 3; i++) {
		from[i] = -1;
		if (strcmp(argv[i], "-") != 0)
			SYS(from[i] = fcntl((int)decimal(argv[i]), F_DUPFD_CLOEXEC, 3), "descriptor %.20s", argv[i]);
	}
	for (int i = 0; i < 3; i++) {
		if (from[i] < 0)
			continue;
		be_standard(from[i], i);
		close(from[i]);
	}
}
