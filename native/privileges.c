/* privileges.c: who the workload is and what it may do. Every operation here takes rights away.
 *
 * With the workload's rights, but the host's descriptors still open, C is at the mercy of every process with the same
 * rights that sees it (a container with the host's pid namespace): it hides before it gives up the first one. */
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor.h"
#include "kernel.h"
#include "listener.h"
#include "namespaces.h"
#include "ops.h"
#include "workload.h"
#include "pass_fd.h"

#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT 47
#define PR_CAP_AMBIENT_RAISE 2
#define PR_CAP_AMBIENT_CLEAR_ALL 4
#endif

struct sets {
	struct __user_cap_header_struct head;
	struct __user_cap_data_struct data[2];
};

static bool keeps_groups(int count, char **words)
{
	return count == 1 && strcmp(words[0], "keep") == 0;
}

void op_become_root(int argc, char **argv)
{
	SYS(setresgid(0, 0, 0), "setresgid");
	/* Denied where a user may not set groups (a map without newgidmap): the groups stay, unmapped. */
	if (!keeps_groups(argc, argv) && setgroups(0, NULL) < 0 && errno != EPERM)
		fail(errno, "setgroups");
	SYS(setresuid(0, 0, 0), "setresuid");
	workload_arm_parent_signal(); /* a change of identity disarms it */
}

void op_bounding(int argc, char **argv)
{
	(void)argc;
	uint64_t keep = hexadecimal(argv[0]);
	hide_from_others();
	for (unsigned cap = 0; cap < 64; cap++) {
		if (keep >> cap & 1)
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
			if (errno == EINVAL) /* past the kernel's last one */
				return;
			fail(errno, "");
		}
	}
}

static struct sets capabilities(void)
{
	struct sets sets = { .head = { .version = _LINUX_CAPABILITY_VERSION_3 } };
	SYS(syscall(SYS_capget, &sets.head, sets.data), "capget");
	return sets;
}

/* A pipe that the monitor made is root's; the workload may open it again by name (/dev/stdout). */
static void give_standard_pipes(uid_t uid, gid_t gid)
{
	for (int fd = 0; fd < 3; fd++) {
		struct stat st;
		if (fstat(fd, &st) < 0 || st.st_uid == uid)
			continue;
		bool terminal = fd_is_our_terminal(fd); /* its group is that of terminals */
		if ((terminal || S_ISFIFO(st.st_mode)) && fchown(fd, uid, terminal ? (gid_t)-1 : gid) < 0 && errno != EPERM &&
		    errno != EINVAL && errno != EROFS)
			fail(errno, "standard descriptor %d", fd);
	}
}

void op_user(int argc, char **argv)
{
	enum { MOST_GROUPS = 65536 };
	uid_t uid = (uid_t)decimal(argv[0]);
	gid_t gid = (gid_t)decimal(argv[1]);
	bool keep = keeps_groups(argc - 3, argv + 3);
	size_t count = keep ? 0 : (size_t)argc - 3;
	gid_t *groups = NULL;
	hide_from_others();
	if (count > MOST_GROUPS)
		fail(EINVAL, "too many groups");
	if (count) {
		groups = mmap(NULL, count * sizeof *groups, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (groups == MAP_FAILED)
			fail(ENOMEM, "groups");
		for (size_t i = 0; i < count; i++)
			groups[i] = (gid_t)decimal(argv[3 + i]);
	}
	give_standard_pipes(uid, gid);
	SYS(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keepcaps");
	if (!keep && setgroups(count, groups) < 0 && (count || errno != EPERM))
		fail(errno, "setgroups");
	SYS(setresgid(gid, gid, gid), "setresgid");
	SYS(setresuid(uid, uid, uid), "setresuid");
	SYS(prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0), "keepcaps");
	/* The kernel kept the permitted set and emptied the effective one; what follows here still needs it. */
	struct sets sets = capabilities();
	sets.data[0].effective = sets.data[0].permitted;
	sets.data[1].effective = sets.data[1].permitted;
	SYS(syscall(SYS_capset, &sets.head, sets.data), "capset");
	ex.umask = strcmp(argv[2], "-") == 0 ? 022 : octal(argv[2]) & 0777;
	workload_arm_parent_signal();
}

void op_caps(int argc, char **argv)
{
	(void)argc;
	uint64_t effective = hexadecimal(argv[0]), permitted = hexadecimal(argv[1]), inheritable = hexadecimal(argv[2]),
		 ambient = hexadecimal(argv[3]);
	struct sets sets = { .head = { .version = _LINUX_CAPABILITY_VERSION_3 } };
	hide_from_others();
	for (int i = 0; i < 2; i++) {
		sets.data[i].effective = (uint32_t)(effective >> 32 * i);
		sets.data[i].permitted = (uint32_t)(permitted >> 32 * i);
		sets.data[i].inheritable = (uint32_t)(inheritable >> 32 * i);
	}
	SYS(syscall(SYS_capset, &sets.head, sets.data));
	SYS(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "ambient");
	for (unsigned cap = 0; cap < 64; cap++)
		if (ambient >> cap & 1)
			SYS(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0), "ambient capability %u", cap);
	workload_arm_parent_signal();
}

void op_no_new_privs(int argc, char **argv)
{
	(void)argc, (void)argv;
	SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

/* Takes effect at exec. The procfs is the host's, so the text reaches the security module and nobody else. */
void op_label(int argc, char **argv)
{
	(void)argc;
	char text[1024];
	bool apparmor = strcmp(argv[0], "apparmor") == 0;
	if (!apparmor && strcmp(argv[0], "selinux") != 0)
		fail(EINVAL, "unknown security module %.40s", argv[0]);
	int n = snprintf(text, sizeof text, "%s%s", apparmor ? "exec " : "", argv[1]);
	if (n >= (int)sizeof text)
		fail(E2BIG, "");
	int fd = apparmor ? open_proc(0, "attr/apparmor/exec", O_WRONLY) : -1;
	if (fd < 0)
		fd = open_proc(0, "attr/exec", O_WRONLY);
	SYS(fd);
	write_all_once(fd, text, (size_t)n);
	close(fd);
}

/* ---- seccomp ---- */

enum { SET_MODE_FILTER = 1, FLAG_NEW_LISTENER = 8 };

/* What waits for exec is loaded now: what is executed before it is to be held as well. */
void op_seccomp_now(int argc, char **argv)
{
	(void)argc, (void)argv;
	workload_load_filter();
}

void load_filter_of(const struct step *step)
{
	const char *hex = step->argv[1];
	unsigned flags = (unsigned)hexadecimal(step->argv[0]);
	bool listener = step->argc > 2;
	size_t size = strlen(hex) / 2;
	if (size == 0 || size % sizeof(struct sock_filter) || size / sizeof(struct sock_filter) > BPF_MAXINSNS)
		fail(EINVAL, "a filter of %zu bytes", size);
	void *filter = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (filter == MAP_FAILED)
		fail(ENOMEM, "");
	from_hex(hex, filter, size);
	struct sock_fprog program = { .len = (unsigned short)(size / sizeof(struct sock_filter)), .filter = filter };
	if (listener)
		listener_prepare(step->argv + 2, step->argc - 2);
	int fd = (int)syscall(SYS_seccomp, SET_MODE_FILTER, listener ? flags | FLAG_NEW_LISTENER : flags, &program);
	int error = errno, taken = listener ? listener_take(fd) : 0;
	if (fd < 0)
		fail(error, "");
	if (taken)
		fail(taken, "listener");
}

/* With no_new_privs a filter may be loaded by anybody, so it waits for `exec`: the steps between need not be allowed
 * by it. Without, it has to be loaded while CAP_SYS_ADMIN is there. One with a listener is loaded at once: an agent
 * that has been connected to may attend to nobody else until it has got its descriptor. */
void op_seccomp(int argc, char **argv)
{
	(void)argv;
	if (argc == 2 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		workload_before_exec(ex.at);
	else
		load_filter_of(&ex.plan.steps[ex.at]);
}

