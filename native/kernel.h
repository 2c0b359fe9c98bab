/* kernel.h: what the kernel offers and a C library may be too old to name.
 *
 * System calls go by number, structures are ours under our own names: <linux/mount.h> and glibc's
 * <sys/mount.h> cannot be included together. All numbers here are the same on x86-64 and arm64. */
#ifndef KNARR_KERNEL_H
#define KNARR_KERNEL_H

#include <fcntl.h>
#include <stdint.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#define SYS_fspick 433
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

/* openat2(2) */
#ifndef RESOLVE_NO_XDEV
#define RESOLVE_NO_XDEV 0x01
#define RESOLVE_NO_MAGICLINKS 0x02
#define RESOLVE_NO_SYMLINKS 0x04
#define RESOLVE_BENEATH 0x08
#define RESOLVE_IN_ROOT 0x10
#endif

struct k_open_how {
	uint64_t flags, mode, resolve;
};

static inline int k_openat2(int dir, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	struct k_open_how how = { .flags = (uint64_t)(unsigned)flags, .mode = mode, .resolve = resolve };
	return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

/* fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2) */
#ifndef FSOPEN_CLOEXEC
#define FSOPEN_CLOEXEC 0x1
#endif
#ifndef FSMOUNT_CLOEXEC
#define FSMOUNT_CLOEXEC 0x1
#endif
enum { K_SET_FLAG = 0, K_SET_STRING = 1, K_CMD_CREATE = 6, K_CMD_RECONFIGURE = 7 };
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef OPEN_TREE_CLOEXEC
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 0x4
#endif
#ifndef MOVE_MOUNT_T_EMPTY_PATH
#define MOVE_MOUNT_T_EMPTY_PATH 0x40
#endif
#ifndef MOUNT_ATTR_RDONLY
#define MOUNT_ATTR_RDONLY 0x1
#define MOUNT_ATTR_NOSUID 0x2
#define MOUNT_ATTR_NODEV 0x4
#define MOUNT_ATTR_NOEXEC 0x8
#define MOUNT_ATTR__ATIME 0x70
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x200000
#endif
#ifndef MOUNT_ATTR_IDMAP
#define MOUNT_ATTR_IDMAP 0x100000
#endif

struct k_mount_attr {
	uint64_t set, clear, propagation, userns_fd;
};

static inline int k_fsopen(const char *type)
{
	return (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
}

static inline int k_fsconfig(int fs, unsigned command, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, fs, command, key, value, 0);
}

static inline int k_fsmount(int fs, uint64_t attributes)
{
	return (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, (unsigned)attributes);
}

static inline int k_fspick(int mount)
{
	enum { CLOEXEC = 1, EMPTY_PATH = 8 };
	return (int)syscall(SYS_fspick, mount, "", CLOEXEC | EMPTY_PATH);
}

static inline int k_open_tree(int dir, const char *path, unsigned flags)
{
	return (int)syscall(SYS_open_tree, dir, path, flags | OPEN_TREE_CLOEXEC);
}

/* Both sides are descriptors: nothing is looked up by name at this moment. */
static inline int k_attach(int mount, int target)
{
	return (int)syscall(SYS_move_mount, mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static inline int k_mount_setattr(int mount, unsigned flags, struct k_mount_attr *attr)
{
	return (int)syscall(SYS_mount_setattr, mount, "", flags | AT_EMPTY_PATH, attr, sizeof *attr);
}

/* statx(2) */
struct k_statx {
	uint32_t mask, block_size;
	uint64_t attributes, unused[16], mount_id;
	unsigned char rest[104];
};

/* Is the descriptor the root of a mount? 1, 0, or -1 with errno. */
static inline int k_is_mount_root(int fd)
{
	enum { MOUNT_ROOT = 0x2000 };
	struct k_statx answer;
	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, 0, &answer) < 0)
		return -1;
	return (answer.attributes & MOUNT_ROOT) != 0;
}

/* Which mount it is in, 0 before Linux 5.8. */
static inline uint64_t k_mount_id(int fd)
{
	enum { MOUNT_ID = 0x1000 };
	struct k_statx answer = { .mask = 0 };
	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, MOUNT_ID, &answer) < 0)
		return 0;
	return answer.mount_id;
}

/* clone3(2) */
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

struct k_clone_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

static inline pid_t k_clone3(struct k_clone_args *args)
{
	return (pid_t)syscall(SYS_clone3, args, sizeof *args);
}

static inline int k_pidfd_open(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static inline int k_pidfd_signal(int pidfd, int number)
{
	return (int)syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0);
}

/* close_range(2) */
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 0x4
#endif

static inline int k_close_range(unsigned first, unsigned last, unsigned flags)
{
	return (int)syscall(SYS_close_range, first, last, flags);
}

/* memfd_create(2), fcntl(2) */
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 0x1
#define MFD_ALLOW_SEALING 0x2
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x10
#endif
#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#define F_SEAL_SEAL 0x1
#define F_SEAL_SHRINK 0x2
#define F_SEAL_GROW 0x4
#define F_SEAL_WRITE 0x8
#endif

/* statfs(2): f_type */
#define K_PROC_MAGIC 0x9fa0
#define K_DEVPTS_MAGIC 0x1cd1
#define K_CGROUP_MAGIC 0x27e0eb
#define K_CGROUP2_MAGIC 0x63677270

#endif
