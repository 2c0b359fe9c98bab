/* ops.h: every operation a plan can have. docs/plan.md is the same table in words. */
#ifndef KNARR_OPS_H
#define KNARR_OPS_H

enum {
	IN_S = 1,      /* the setter, before clone; or a plan without clone */
	IN_S_LATE = 2, /* the setter, while C waits */
	IN_C = 4,      /* the container's process; or a plan without clone */
	ANYWHERE = 7,
};

struct op {
	const char *name;
	int min, max; /* arguments */
	int where;
	void (*run)(int argc, char **argv);
};

const struct op *op_find(const char *name);
void ops_print(void);

#define OP(name) void op_##name(int argc, char **argv)

/* files.c */
OP(mkdir); OP(rmdir); OP(rmtree); OP(unlink); OP(symlink); OP(rename); OP(write); OP(write_first); OP(write_both);
OP(write_file); OP(umount);
/* cgroup.c */
OP(cgroup_kill); OP(cgroup_move); OP(cgroup_own); OP(cgroup_v2); OP(cgroup_devices);
/* netlink.c */
OP(netlink);
/* netdevice.c */
OP(net_device);
/* resctrl.c */
OP(resctrl_group);
/* namespaces.c */
OP(join); OP(join_pid); OP(unshare);
/* init.c */
OP(clone); OP(write_child); OP(pause); OP(enter);
/* spawn.c */
OP(spawn); OP(wait_spawned);
/* hook.c */
OP(hook);
/* mounts.c */
OP(propagation); OP(overlay); OP(mount); OP(bind); OP(idmap_bind); OP(attach_propagation); OP(remount); OP(copy_up);
/* prepared.c */
OP(open_tree); OP(open_node);
/* rootfs.c */
OP(root); OP(make_dir); OP(make_file); OP(make_link); OP(no_link); OP(device); OP(mask); OP(readonly); OP(pivot); OP(move_root); OP(chroot); OP(root_attr);
/* seed.c */
OP(seed);
/* settings.c */
OP(keyring); OP(sysctl); OP(hostname); OP(domainname); OP(rlimit); OP(oom_score); OP(personality); OP(scheduler);
OP(ioprio); OP(affinity); OP(mempolicy); OP(new_session);
/* privileges.c */
OP(become_root); OP(bounding); OP(user); OP(caps); OP(no_new_privs); OP(label); OP(seccomp); OP(seccomp_now);
/* listener.c */
OP(seccomp_listener);
/* console.c */
OP(console); OP(stdio); OP(own_null);
/* workload.c */
OP(pdeathsig); OP(reap); OP(chdir); OP(close_fds); OP(wait); OP(wait_fifo); OP(env);
OP(find_command); OP(exec);

#endif
