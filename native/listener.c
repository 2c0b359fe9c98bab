/* listener.c: the notify descriptor of a seccomp filter goes to the agent that decides in the kernel's place.
 *
 * The filter may ask the agent about any system call, also about those that would hand over the descriptor. So a process
 * that the filter does not hold does that: made before, with the same table of descriptors, it waits in memory for the
 * number. What it sends is one document and the descriptor; the connection ends then (config-linux.md, Seccomp). */
#include "listener.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "executor.h"
#include "kernel.h"
#include "ops.h"
#include "pass_fd.h"

enum { PATIENCE_S = 10, NOTHING_YET = -1, GIVEN_UP = -2 };

static struct handover {
	int fd;     /* written by C once it has one */
	int answer; /* errno of the handover, 0 for well */
} *handover;
static pid_t helper;

/* In S, with the host's files and rights. By way of a descriptor, as an address has room for 107 bytes only. */
void op_seccomp_listener(int argc, char **argv)
{
	(void)argc;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = PATIENCE_S };
	int path = open(argv[0], O_PATH | O_CLOEXEC);
	SYS(path);
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	SYS(fd, "socket");
	SYS(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), "socket");
	SYS(connect(fd, (struct sockaddr *)&address, sizeof address));
	close(path);
	ex.listener = fd;
}

void listener_leave_to_child(void)
{
	if (ex.listener >= 0)
		close(ex.listener);
	ex.listener = -1;
}

static int send_all(const char *text, size_t size, int fd)
{
	ssize_t n = pass_fd_with(ex.listener, fd, text, size);
	for (size_t sent = 0; n >= 0;) {
		if ((sent += (size_t)n) == size)
			return 0;
		n = send(ex.listener, text + sent, size - sent, MSG_NOSIGNAL);
	}
	return errno;
}

/* ---- the helper: C's descriptors, namespaces and rights, but not its filter; gone when C goes ---- */
_Noreturn static void hand_over(const char *text, size_t size)
{
	const struct timespec moment = { .tv_nsec = 50000 };
	int fd;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while ((fd = __atomic_load_n(&handover->fd, __ATOMIC_ACQUIRE)) == NOTHING_YET)
		nanosleep(&moment, NULL);
	if (fd >= 0) {
		int error = send_all(text, size, fd);
		close(fd);
		close(ex.listener);
		__atomic_store_n(&handover->answer, error, __ATOMIC_RELEASE);
	}
	_exit(0);
}

void listener_prepare(char **parts, int count)
{
	if (ex.listener < 0)
		fail(EBADF, "the plan has no listener");
	int memory = memfd_create("state", MFD_CLOEXEC);
	SYS(memory, "state");
	write_with_pid(memory, parts, count, pid_outside());
	off_t size = lseek(memory, 0, SEEK_CUR);
	const char *text = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, memory, 0);
	handover = mmap(NULL, sizeof *handover, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (text == MAP_FAILED || handover == MAP_FAILED)
		fail(ENOMEM, "state");
	close(memory);
	handover->fd = handover->answer = NOTHING_YET;
	struct k_clone_args args = { .flags = CLONE_FILES, .exit_signal = SIGCHLD };
	helper = k_clone3(&args);
	SYS(helper, "listener");
	if (helper == 0)
		hand_over(text, (size_t)size);
}

int listener_take(int fd)
{
	int answer = NOTHING_YET;
	__atomic_store_n(&handover->fd, fd >= 0 ? fd : GIVEN_UP, __ATOMIC_RELEASE);
	/* No system call: the filter is in force, and its agent is not there yet. Bounded, should the helper be killed. */
	for (uint64_t tries = 0; fd >= 0 && answer == NOTHING_YET && tries < 1ULL << 34; tries++)
		answer = __atomic_load_n(&handover->answer, __ATOMIC_ACQUIRE);
	ex.listener = -1; /* closed by the helper */
	waitpid(helper, NULL, 0);
	return answer == NOTHING_YET ? EPIPE : answer;
}
