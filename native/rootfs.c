/* rootfs.c: the root filesystem: taking hold of it, its nodes, what is hidden in it, and moving in. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "beneath.h"
#include "executor.h"
#include "kernel.h"
#include "mounts.h"
#include "ops.h"

static bool is_mount_point(int fd)
{
	int answer = k_is_mount_root(fd);
	SYS(answer, "statx");
	return answer;
}

void op_root(int argc, char **argv)
{
	unsigned recursive = truth(argv[1]) ? AT_RECURSIVE : 0;
	int fd = open(argv[0], O_PATH | O_DIRECTORY | O_CLOEXEC);
	SYS(fd);
	/* A mount that is there already may be locked: one that a user namespace has from its parent cannot become the
	 * root (pivot_root: EINVAL), a copy of it can. */
	if (recursive || !is_mount_point(fd)) {
		int tree = k_open_tree(fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | recursive);
		SYS(tree);
		SYS(k_attach(tree, fd));
		close(fd);
		fd = tree; /* the descriptor is in the mount that has just been put in place */
	}
	set_attributes(fd, 0, 0, recursive, argc > 2 ? hexadecimal(argv[2]) : MS_PRIVATE);
	ex.root = fd;
}

/* pivot_root(2) refuses a root whose parent mount is shared: that parent is ours alone (our mount namespace is a copy),
 * so it is made private. */
static void make_parent_private(void)
{
	int fd = openat(ex.root, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	SYS(fd, "parent of the root");
	while (!is_mount_point(fd)) {
		int up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		SYS(up, "parent of the root");
		close(fd);
		fd = up;
	}
	set_attributes(fd, 0, 0, false, MS_PRIVATE);
	close(fd);
}

static void need_root(void)
{
	if (ex.root < 0)
		fail(EINVAL, "the plan has no root");
}

static void forget_covers(void);

void op_pivot(int argc, char **argv)
{
	(void)argc, (void)argv;
	need_root();
	int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	SYS(old, "old root");
	SYS(fchdir(ex.root), "root");
	/* Onto itself: the old root then lies on top of the new one, and needs no directory in it (pivot_root(2)). */
	if (syscall(SYS_pivot_root, ".", ".") < 0) {
		if (errno != EINVAL)
			fail(errno, "");
		make_parent_private();
		SYS(syscall(SYS_pivot_root, ".", "."));
	}
	SYS(fchdir(old), "old root");
	/* Unmounting must not travel back to the host, nor may the host's mounts be kept busy by us. */
	SYS(mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL), "old root");
	SYS(umount2(".", MNT_DETACH), "old root");
	SYS(chdir("/"), "root");
	close(old);
	forget_covers();
}

static bool is_below(const char *path, const char *root)
{
	size_t n = strlen(root);
	return strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == 0);
}

/* A line of mountinfo, of `proc` or `sysfs`: its fifth field, ended by NUL (proc_pid_mountinfo(5)). Else NULL. */
static char *mounted_proc_or_sys(char *line)
{
	const char *kind = strstr(line, " - ");
	if (kind == NULL || (strncmp(kind, " - proc ", 8) != 0 && strncmp(kind, " - sysfs ", 9) != 0))
		return NULL;
	for (int field = 1; field < 5; field++)
		line = strchr(line, ' ') + 1;
	line[strcspn(line, " ")] = 0;
	return line;
}

/* The host's procfs and sysfs would stay below the root that is moved over them, and the kernel lets a user namespace
 * mount them bare as long as some are to be seen whole. They go from this mount namespace; no others see that. */
static void drop_bare_proc_and_sys(void)
{
	enum { MOST = 1 << 20 };
	char root[PATH_MAX], name[32];
	snprintf(name, sizeof name, "self/fd/%d", ex.root);
	ssize_t length = readlinkat(ex.proc, name, root, sizeof root - 1);
	SYS(length, "root");
	root[length] = 0;
	char *text = mmap(NULL, MOST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open_proc(0, "mountinfo", O_RDONLY);
	if (text == MAP_FAILED || fd < 0)
		fail(errno, "mountinfo");
	size_t size = 0;
	for (ssize_t n; (n = read(fd, text + size, MOST - 1 - size)) > 0;)
		size += (size_t)n;
	close(fd);
	if (size == MOST - 1)
		fail(E2BIG, "mountinfo");
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		*end = 0;
		char *target = mounted_proc_or_sys(line);
		if (target && !is_below(target, root) && umount2(target, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
			fail(errno, "%s of the host", target);
	}
	munmap(text, MOST);
}

void op_move_root(int argc, char **argv)
{
	(void)argc, (void)argv;
	need_root();
	drop_bare_proc_and_sys();
	SYS(fchdir(ex.root), "root");
	SYS(mount(".", "/", NULL, MS_MOVE, NULL));
	SYS(chroot("."), "chroot");
	SYS(chdir("/"), "root");
	forget_covers();
}

/* Without a mount namespace: the host keeps its root, and this process has one of its own. */
void op_chroot(int argc, char **argv)
{
	(void)argc, (void)argv;
	need_root();
	SYS(fchdir(ex.root), "root");
	SYS(chroot("."));
	SYS(chdir("/"), "root");
	forget_covers();
}

void op_root_attr(int argc, char **argv)
{
	(void)argc;
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	SYS(fd);
	set_attributes(fd, hexadecimal(argv[0]), 0, truth(argv[1]), 0);
	close(fd);
}

void op_make_dir(int argc, char **argv)
{
	(void)argc;
	bool made;
	int fd = in_make(argv[0], false, octal(argv[1]), &made);
	struct stat st;
	SYS(fstat(fd, &st));
	if (!S_ISDIR(st.st_mode))
		fail(ENOTDIR, "");
	if (made)
		SYS(fchownat(fd, "", (uid_t)decimal(argv[2]), (gid_t)decimal(argv[3]), AT_EMPTY_PATH), "owner");
	close(fd);
}

void op_make_file(int argc, char **argv)
{
	(void)argc;
	close(in_make(argv[0], true, octal(argv[1]), NULL));
}

void op_no_link(int argc, char **argv)
{
	(void)argc;
	int fd = in_open_plain(argv[0], O_PATH);
	if (fd >= 0)
		close(fd);
	else if (errno != ENOENT)
		fail(errno, "");
}

void op_make_link(int argc, char **argv)
{
	(void)argc;
	char name[256];
	int parent = in_parent(argv[0], name);
	if (symlinkat(argv[1], parent, name) < 0 && errno != EEXIST)
		fail(errno, "");
	close(parent);
}

mode_t node_type(const char *type)
{
	switch (type[1] ? 0 : type[0]) {
	case 'b': return S_IFBLK;
	case 'c': case 'u': return S_IFCHR;
	case 'p': return S_IFIFO;
	}
	fail(EINVAL, "unknown type of node: %.40s", type);
}

void op_device(int argc, char **argv)
{
	char name[256];
	mode_t type = node_type(argv[1]), mode = octal(argv[4]) & 07777;
	dev_t number = type == S_IFIFO ? 0 : makedev((unsigned)decimal(argv[2]), (unsigned)decimal(argv[3]));
	int parent = in_parent(argv[0], name);
	if (mknodat(parent, name, type | mode, number) < 0) {
		struct stat st;
		if (errno != EEXIST)
			fail(errno, "");
		SYS(fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW));
		if ((st.st_mode & S_IFMT) == type && (type == S_IFIFO || st.st_rdev == number)) {
			close(parent);
			return;
		}
		if (argc > 7 && truth(argv[7]))
			fail(EEXIST, "something else is there");
		SYS(unlinkat(parent, name, 0));
		SYS(mknodat(parent, name, type | mode, number));
	}
	uid_t uid = (uid_t)decimal(argv[5]);
	gid_t gid = (gid_t)decimal(argv[6]);
	if (uid || gid)
		SYS(fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW), "owner");
	close(parent);
}

/* ---- hiding and protecting ---- */

/* The real /dev/null, not something of that name. Before `pivot` it is the host's. */
static int null = -1;

static int null_device(void)
{
	struct stat st;
	if (null >= 0)
		return null;
	int fd = open("/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	SYS(fd, "/dev/null");
	SYS(fstat(fd, &st), "/dev/null");
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		fail(ENXIO, "/dev/null is not that device");
	return null = fd;
}

/* One empty filesystem serves all masked directories: the first is copied for the others. */
static int empty_directory = -1;

/* Nothing is hidden once the process has moved in: what of the host was held for it is let go. */
static void forget_covers(void)
{
	if (null >= 0)
		close(null);
	if (empty_directory >= 0)
		close(empty_directory);
	null = empty_directory = -1;
}

static int cover(bool directory)
{
	const uint64_t attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	if (directory && empty_directory < 0)
		return empty_directory = new_filesystem("tmpfs", "tmpfs", "nr_blocks=1,nr_inodes=1", attributes);
	return k_open_tree(directory ? empty_directory : null_device(), "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
}

void op_mask(int argc, char **argv)
{
	(void)argc;
	int target = in_open(argv[0], O_PATH);
	if (target < 0 && (errno == ENOENT || errno == ENOTDIR))
		return;
	SYS(target);
	struct stat st;
	SYS(fstat(target, &st));
	int mount = cover(S_ISDIR(st.st_mode));
	SYS(mount);
	SYS(k_attach(mount, target));
	close(target);
	if (mount != empty_directory)
		close(mount);
}

void op_readonly(int argc, char **argv)
{
	(void)argc;
	int target = in_open(argv[0], O_PATH);
	if (target < 0 && (errno == ENOENT || errno == ENOTDIR))
		return;
	SYS(target);
	int tree = k_open_tree(target, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE);
	SYS(tree);
	set_attributes(tree, MOUNT_ATTR_RDONLY, 0, true, 0);
	attach(tree, target);
}
