/* cgroup.c: being born in a cgroup, emptying one, and its device rules on v2. */
#include <fcntl.h>
#include <linux/bpf.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "directory.h"
#include "executor.h"
#include "kernel.h"
#include "ops.h"

void op_cgroup_v2(int argc, char **argv)
{
	(void)argc;
	SYS(ex.cgroup = open(argv[0], O_PATH | O_DIRECTORY | O_CLOEXEC));
}

/* Delegation (cgroups(7)): of the files in there only those that the kernel says are safe to give away. */
void op_cgroup_own(int argc, char **argv)
{
	(void)argc;
	static const char usual[] = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";
	char names[4096];
	ssize_t n = -1;
	uid_t uid = (uid_t)decimal(argv[1]);
	int dir = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC), list = open("/sys/kernel/cgroup/delegate", O_RDONLY | O_CLOEXEC);
	SYS(dir);
	if (list >= 0) {
		n = read(list, names, sizeof names - 1);
		close(list);
	}
	if (n <= 0)
		memcpy(names, usual, (size_t)(n = sizeof usual - 1));
	names[n] = '\0';
	SYS(fchown(dir, uid, (gid_t)-1));
	for (char *name = names, *end; (end = strchr(name, '\n')); name = end + 1) {
		*end = '\0';
		if (*name && !strchr(name, '/') && fchownat(dir, name, uid, (gid_t)-1, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
			fail(errno, "%.100s", name);
	}
	close(dir);
}

static void kill_process(pid_t pid)
{
	int fd = k_pidfd_open(pid);
	if (fd < 0)
		return;
	k_pidfd_signal(fd, SIGKILL);
	close(fd);
}

/* Kills what is in the cgroup itself. Returns how many processes were seen. A process that has a number in another
 * pid namespace only is shown as 0. */
static int kill_members(int dir)
{
	char text[4096];
	int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC), seen = 0;
	if (fd < 0)
		return 0;
	long pid = 0;
	bool digits = false;
	for (ssize_t n; (n = read(fd, text, sizeof text)) > 0;) {
		for (ssize_t i = 0; i < n; i++) {
			if (text[i] >= '0' && text[i] <= '9') {
				pid = pid * 10 + (text[i] - '0');
				digits = true;
				continue;
			}
			seen += digits;
			if (pid > 0)
				kill_process((pid_t)pid);
			pid = 0;
			digits = false;
		}
	}
	close(fd);
	return seen;
}

static int kill_below(int dir, int depth)
{
	struct listing list = { .dir = dir };
	int seen = kill_members(dir);
	rewind_listing(&list);
	for (const struct entry *e; depth < 64 && (e = next_entry(&list));) {
		if (e->type != IS_DIR)
			continue;
		int below = openat(dir, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (below < 0)
			continue;
		seen += kill_below(below, depth + 1);
		close(below);
	}
	return seen;
}

/* v2: "populated 0" in cgroup.events covers the whole subtree. */
static bool populated(int dir)
{
	char text[256];
	int fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return true;
	text[n] = '\0';
	return !strstr(text, "populated 0");
}

void op_cgroup_kill(int argc, char **argv)
{
	(void)argc;
	int dir = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 && errno == ENOENT)
		return;
	SYS(dir);
	int kill = openat(dir, "cgroup.kill", O_WRONLY | O_CLOEXEC);
	for (int waited_ms = 0, pause_ms = 1; waited_ms < 10000; waited_ms += pause_ms, pause_ms = pause_ms < 32 ? pause_ms * 2 : 32) {
		bool alive;
		if (kill >= 0) {
			if ((alive = populated(dir)))
				SYS(write(kill, "1", 1));
		} else {
			alive = kill_below(dir, 0) > 0;
		}
		if (!alive) {
			close(kill);
			close(dir);
			return;
		}
		nanosleep(&(struct timespec){ .tv_nsec = pause_ms * 1000000L }, NULL);
	}
	fail(ETIMEDOUT, "processes are still alive");
}

/* Moves what is in the cgroup itself (not below) until nothing is. A process that ends on the way is no error. */
void op_cgroup_move(int argc, char **argv)
{
	(void)argc;
	char text[4096];
	int from = open(argv[0], O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (from < 0 && errno == ENOENT)
		return;
	SYS(from, "%s", argv[0]);
	int to = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
	SYS(to, "%s", argv[1]);
	int moved = 1;
	for (int round = 0; moved && round < 1000; round++) {
		int list = openat(from, "cgroup.procs", O_RDONLY | O_CLOEXEC);
		SYS(list);
		ssize_t size = read(list, text, sizeof text - 1);
		close(list);
		SYS(size);
		text[size] = '\0';
		moved = 0;
		/* What is behind the last newline is half a number: it comes in the next round. */
		for (char *pid = text, *end; (end = strchr(pid, '\n')); pid = end + 1, moved++) {
			int target = openat(to, "cgroup.procs", O_WRONLY | O_CLOEXEC);
			SYS(target);
			ssize_t n = write(target, pid, (size_t)(end - pid));
			int error = errno;
			close(target);
			if (n < 0 && error != ESRCH)
				fail(error, "process %.*s", (int)(end - pid), pid);
		}
	}
	close(from);
	close(to);
}

/* Device rules on v2 are a program that the kernel asks. */
void op_cgroup_devices(int argc, char **argv)
{
	(void)argc;
	static _Alignas(4096) unsigned char instructions[8 * 4096];
	size_t size = from_hex(argv[1], instructions, sizeof instructions);
	if (size == 0 || size % 8)
		fail(EINVAL, "a program of %zu bytes", size);
	int dir = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	SYS(dir);
	union bpf_attr load, attach;
	memset(&load, 0, sizeof load);
	load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	load.insn_cnt = (uint32_t)(size / 8);
	load.insns = (uint64_t)(uintptr_t)instructions;
	load.license = (uint64_t)(uintptr_t)"Apache-2.0";
	int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
	SYS(program, "program");
	memset(&attach, 0, sizeof attach);
	attach.target_fd = (uint32_t)dir;
	attach.attach_bpf_fd = (uint32_t)program;
	attach.attach_type = BPF_CGROUP_DEVICE;
	attach.attach_flags = BPF_F_ALLOW_MULTI;
	SYS((int)syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach), "attach");
	close(program);
	close(dir);
}
