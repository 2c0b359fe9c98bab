/* ops.c: the table of operations, in alphabetical order (it is searched by halves). */
#include "ops.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct op table[] = {
	{ "affinity", 1, 1, ANYWHERE, op_affinity },
	{ "attach-propagation", 2, 2, IN_C, op_attach_propagation },
	{ "become-root", 0, 1, IN_C, op_become_root },
	{ "bind", 9, 9, IN_C, op_bind },
	{ "bounding", 1, 1, IN_C, op_bounding },
	{ "caps", 4, 4, IN_C, op_caps },
	{ "cgroup-devices", 2, 2, IN_S | IN_S_LATE, op_cgroup_devices },
	{ "cgroup-kill", 1, 1, ANYWHERE, op_cgroup_kill },
	{ "cgroup-move", 2, 2, ANYWHERE, op_cgroup_move },
	{ "cgroup-own", 2, 2, IN_S, op_cgroup_own },
	{ "cgroup-v2", 1, 1, IN_S, op_cgroup_v2 },
	{ "chdir", 1, 1, ANYWHERE, op_chdir },
	{ "chroot", 0, 0, IN_C, op_chroot },
	{ "clone", 1, 1, IN_S, op_clone },
	{ "close-fds", 1, 1, IN_C, op_close_fds },
	{ "console", 4, 5, IN_C, op_console },
	{ "copy-up", 1, 1, IN_C, op_copy_up },
	{ "device", 7, 8, IN_C, op_device },
	{ "domainname", 1, 1, IN_C, op_domainname },
	{ "enter", 0, 0, IN_S_LATE, op_enter },
	{ "env", 0, INT_MAX, IN_C, op_env },
	{ "exec", 1, INT_MAX, IN_C, op_exec },
	{ "find-command", 1, 1, IN_C, op_find_command },
	{ "hook", 6, INT_MAX, IN_S_LATE | IN_C, op_hook },
	{ "hostname", 1, 1, IN_C, op_hostname },
	{ "idmap-bind", 12, 12, IN_C, op_idmap_bind },
	{ "ioprio", 2, 2, ANYWHERE, op_ioprio },
	{ "join", 2, 2, ANYWHERE, op_join },
	{ "join-pid", 3, 4, IN_S, op_join_pid },
	{ "keyring", 1, 1, IN_C, op_keyring },
	{ "label", 2, 2, IN_C, op_label },
	{ "make-dir", 4, 4, IN_C, op_make_dir },
	{ "make-file", 2, 2, IN_C, op_make_file },
	{ "make-link", 2, 2, IN_C, op_make_link },
	{ "mask", 1, 1, IN_C, op_mask },
	{ "mempolicy", 2, 2, ANYWHERE, op_mempolicy },
	{ "mkdir", 2, 2, ANYWHERE, op_mkdir },
	{ "mount", 5, 6, IN_C, op_mount },
	{ "move-root", 0, 0, IN_C, op_move_root },
	{ "net-device", 2, 3, IN_S | IN_S_LATE, op_net_device },
	{ "netlink", 2, 3, ANYWHERE, op_netlink },
	{ "new-session", 0, 0, ANYWHERE, op_new_session },
	{ "no-link", 1, 1, IN_C, op_no_link },
	{ "no-new-privs", 0, 0, IN_C, op_no_new_privs },
	{ "oom-score", 1, 1, ANYWHERE, op_oom_score },
	{ "open-node", 7, 7, IN_S, op_open_node },
	{ "open-tree", 5, 8, IN_S, op_open_tree },
	{ "overlay", 5, INT_MAX, ANYWHERE, op_overlay },
	{ "own-null", 0, 0, IN_C, op_own_null },
	{ "pause", 1, 1, ANYWHERE, op_pause },
	{ "pdeathsig", 1, 1, IN_C, op_pdeathsig },
	{ "personality", 1, 1, IN_C, op_personality },
	{ "pivot", 0, 0, IN_C, op_pivot },
	{ "propagation", 2, 2, ANYWHERE, op_propagation },
	{ "readonly", 1, 1, IN_C, op_readonly },
	{ "reap", 0, 0, IN_C, op_reap },
	{ "remount", 4, 5, IN_C, op_remount },
	{ "rename", 2, 2, ANYWHERE, op_rename },
	{ "resctrl-group", 1, INT_MAX, IN_S, op_resctrl_group },
	{ "rlimit", 3, 3, ANYWHERE, op_rlimit },
	{ "rmdir", 1, 1, ANYWHERE, op_rmdir },
	{ "rmtree", 1, 1, ANYWHERE, op_rmtree },
	{ "root", 2, 3, IN_C, op_root },
	{ "root-attr", 2, 2, IN_C, op_root_attr },
	{ "scheduler", 7, 7, ANYWHERE, op_scheduler },
	{ "seccomp", 2, INT_MAX, IN_C, op_seccomp },
	{ "seccomp-listener", 1, 1, IN_S, op_seccomp_listener },
	{ "seccomp-now", 0, 0, IN_C, op_seccomp_now },
	{ "seed", 3, 3, IN_C, op_seed },
	{ "spawn", 1, INT_MAX, IN_S | IN_S_LATE, op_spawn },
	{ "stdio", 3, 3, ANYWHERE, op_stdio },
	{ "symlink", 2, 2, ANYWHERE, op_symlink },
	{ "sysctl", 2, 2, ANYWHERE, op_sysctl },
	{ "umount", 1, 1, ANYWHERE, op_umount },
	{ "unlink", 1, 1, ANYWHERE, op_unlink },
	{ "unshare", 1, 1, ANYWHERE, op_unshare },
	{ "user", 3, INT_MAX, IN_C, op_user },
	{ "wait", 1, 1, IN_C, op_wait },
	{ "wait-fifo", 1, 1, IN_C, op_wait_fifo },
	{ "wait-spawned", 0, 0, IN_S | IN_S_LATE, op_wait_spawned },
	{ "write", 2, 2, ANYWHERE, op_write },
	{ "write-both", 4, 4, ANYWHERE, op_write_both },
	{ "write-child", 2, 2, IN_S_LATE, op_write_child },
	{ "write-file", 3, 3, ANYWHERE, op_write_file },
	{ "write-first", 2, INT_MAX, ANYWHERE, op_write_first },
};

enum { COUNT = sizeof table / sizeof *table };

static int compare(const void *name, const void *op)
{
	return strcmp(name, ((const struct op *)op)->name);
}

const struct op *op_find(const char *name)
{
	return bsearch(name, table, COUNT, sizeof *table, compare);
}

/* One line per operation: name, fewest and most arguments (- for any), where it may stand. */
void ops_print(void)
{
	for (int i = 0; i < COUNT; i++) {
		const struct op *op = &table[i];
		char most[12] = "-";
		if (op->max != INT_MAX)
			snprintf(most, sizeof most, "%d", op->max);
		printf("%s %d %s %s%s%s\n", op->name, op->min, most, op->where & IN_S ? "S" : "",
		       op->where & IN_S_LATE ? "L" : "", op->where & IN_C ? "C" : "");
	}
}
