/* prepared.c: mounts that S makes ready for C: what S may open and C, in a user namespace of its own, may not.
 *
 * They are detached trees in numbered slots. C has inherited them and puts them in place; a slot is used once. */
#include "prepared.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "executor.h"
#include "kernel.h"
#include "mounts.h"
#include "namespaces.h"
#include "ops.h"

enum { SLOTS = 1024 };

static int slots[SLOTS]; /* descriptor + 1 */

static int *slot(const char *text)
{
	long long n = decimal(text);
	if (n < 0 || n >= SLOTS)
		fail(EINVAL, "no slot");
	return &slots[n];
}

int prepared_take(const char *text)
{
	int *at = slot(text), fd = *at - 1;
	if (fd < 0)
		fail(EINVAL, "nothing was prepared");
	*at = 0;
	return fd;
}

int clone_tree(const char *source, const char *kind, bool recursive)
{
	unsigned flags = OPEN_TREE_CLONE | (recursive ? AT_RECURSIVE : 0U);
	int tree = k_open_tree(AT_FDCWD, source, flags | (has_word(kind, "source-link") ? AT_SYMLINK_NOFOLLOW : 0U));
	SYS(tree);
	return tree;
}

void map_ids(int tree, const char *uid_maps, const char *gid_maps, bool all)
{
	struct k_mount_attr attr = { .set = MOUNT_ATTR_IDMAP };
	int namespace = *uid_maps == '/' ? open(uid_maps, O_RDONLY | O_CLOEXEC) : mapped_user_namespace(uid_maps, gid_maps);
	SYS(namespace, "user namespace of the mount");
	attr.userns_fd = (uint64_t)namespace;
	SYS(k_mount_setattr(tree, all ? AT_RECURSIVE : 0, &attr), "ID-mapped mount");
	close(namespace);
}

bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);
	for (; *list; list += *list == ',') {
		size_t length = strcspn(list, ",");
		if (length == n && memcmp(list, word, n) == 0)
			return true;
		list += length;
	}
	return false;
}

/* slot source kind recursive propagation [uid-maps gid-maps recursive] */
void op_open_tree(int argc, char **argv)
{
	int *at = slot(argv[0]);
	int tree = clone_tree(argv[1], argv[2], truth(argv[3]));
	if (argc != 5 && argc != 8)
		fail(EINVAL, "");
	if (argc == 8)
		map_ids(tree, argv[5], argv[6], truth(argv[7]));
	set_propagation(tree, hexadecimal(argv[4]));
	*at = tree + 1;
}

/* ---- the maker of a node ------------------------------------------------------------------------------------------
 * S's rights and S's table of descriptors, in a mount namespace of its own: a tree can only be cloned from a mount that
 * is attached in the namespace of who does it. What it made outlives it, by the descriptor alone. */
static int make_node_tree(char **argv, mode_t mode, dev_t number)
{
	int target = -1, mount_fd = -1, fs = -1, tree = -1;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || (fs = k_fsopen("tmpfs")) < 0 ||
	    k_fsconfig(fs, K_CMD_CREATE, NULL, NULL) < 0 || (mount_fd = k_fsmount(fs, 0)) < 0 ||
	    (target = open("/", O_PATH | O_CLOEXEC)) < 0 || k_attach(mount_fd, target) < 0 ||
	    mknodat(mount_fd, "node", mode, number) < 0 ||
	    fchownat(mount_fd, "node", (uid_t)decimal(argv[5]), (gid_t)decimal(argv[6]), AT_SYMLINK_NOFOLLOW) < 0 ||
	    (tree = k_open_tree(mount_fd, "node", OPEN_TREE_CLONE)) < 0)
		tree = -errno;
	close(fs);
	close(mount_fd);
	close(target);
	return tree;
}

/* slot type major minor mode uid gid, ids as S knows them */
void op_open_node(int argc, char **argv)
{
	(void)argc;
	int *at = slot(argv[0]), ready[2], tree = -EIO;
	mode_t mode = node_type(argv[1]) | (octal(argv[4]) & 07777);
	dev_t number = S_ISFIFO(mode) ? 0 : makedev((unsigned)decimal(argv[2]), (unsigned)decimal(argv[3]));
	decimal(argv[5]), decimal(argv[6]); /* what is no number is S's failure */
	SYS(pipe2(ready, O_CLOEXEC), "pipe");
	struct k_clone_args args = { .flags = CLONE_FILES | CLONE_NEWNS, .exit_signal = SIGCHLD };
	pid_t pid = k_clone3(&args);
	SYS(pid, "mount namespace");
	if (pid == 0) {
		tree = make_node_tree(argv, mode, number);
		_exit(write(ready[1], &tree, sizeof tree) != sizeof tree);
	}
	waitpid(pid, NULL, 0);
	fcntl(ready[0], F_SETFL, O_NONBLOCK); /* should it have been killed */
	if (read(ready[0], &tree, sizeof tree) != sizeof tree)
		tree = -EIO;
	close(ready[0]);
	close(ready[1]);
	if (tree < 0)
		fail(-tree, "");
	*at = tree + 1;
}
