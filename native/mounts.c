/* mounts.c: making mounts and putting them in place, by descriptor from end to end. */
#include "mounts.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "beneath.h"
#include "executor.h"
#include "kernel.h"
#include "ops.h"
#include "prepared.h"
#include "tree.h"

enum { LONGEST_VALUE = 255 }; /* fsconfig(2) takes no more */

static char *copy_up_target;
static int copy_up_from = -1;

void set_attributes(int mount, uint64_t set, uint64_t clear, bool recursive, uint64_t propagation)
{
	struct k_mount_attr attr = { .set = set, .clear = clear, .propagation = propagation };
	if (set & MOUNT_ATTR__ATIME)
		attr.clear |= MOUNT_ATTR__ATIME; /* one of a kind: the kernel wants the old one cleared */
	if (set | clear | propagation)
		SYS(k_mount_setattr(mount, recursive ? AT_RECURSIVE : 0, &attr), "attributes");
}

/* flags: MS_SHARED, MS_PRIVATE, MS_SLAVE or MS_UNBINDABLE, with MS_REC or without */
void set_propagation(int mount, uint64_t flags)
{
	set_attributes(mount, 0, 0, flags & MS_REC, flags & ~(uint64_t)MS_REC);
}

void op_propagation(int argc, char **argv)
{
	(void)argc;
	SYS(mount(NULL, argv[0], NULL, hexadecimal(argv[1]), NULL));
}

/* The filesystem's own explanation, where it has one: "e overlay: Unknown parameter 'x'". */
_Noreturn static void fail_with_log(int fs, int error, const char *what)
{
	char text[256];
	ssize_t n = read(fs, text, sizeof text - 1);
	if (n <= 2)
		fail(error, "%s", what);
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	fail(error, "%s", text + 2);
}

static void configure(int fs, unsigned command, const char *key, const char *value)
{
	if (k_fsconfig(fs, command, key, value) < 0)
		fail_with_log(fs, errno, key ? key : "");
}

/* data: "key,key=value"; a comma in a value is written \, */
static void configure_all(int fs, const char *data)
{
	char word[LONGEST_VALUE * 2];
	while (*data) {
		size_t n = 0;
		for (; *data && *data != ','; data++) {
			if (data[0] == '\\' && data[1] == ',')
				data++;
			if (n == sizeof word - 1)
				fail(ENAMETOOLONG, "option");
			word[n++] = *data;
		}
		word[n] = '\0';
		data += *data == ',';
		if (n == 0)
			continue;
		char *value = strchr(word, '=');
		if (value)
			*value++ = '\0';
		configure(fs, value ? K_SET_STRING : K_SET_FLAG, word, value);
	}
}

static int open_filesystem(const char *type)
{
	int fs = k_fsopen(type);
	if (fs < 0)
		fail(errno, errno == ENODEV ? "the kernel has no filesystem %s" : "%s", type);
	return fs;
}

int new_filesystem(const char *type, const char *source, const char *data, uint64_t attributes)
{
	int fs = open_filesystem(type);
	if (*source)
		configure(fs, K_SET_STRING, "source", source);
	configure_all(fs, data);
	configure(fs, K_CMD_CREATE, NULL, NULL);
	int mount = k_fsmount(fs, attributes);
	if (mount < 0)
		fail_with_log(fs, errno, "");
	close(fs);
	return mount;
}

/* Is it the very directory that the root is, and not another way to the same files? */
static bool is_the_root(int fd)
{
	struct stat here, root;
	return fstat(fd, &here) == 0 && fstat(ex.root, &root) == 0 && here.st_dev == root.st_dev && here.st_ino == root.st_ino &&
	       k_mount_id(fd) == k_mount_id(ex.root);
}

void attach(int mount, int target)
{
	bool new_root = is_the_root(target);
	SYS(k_attach(mount, target));
	close(target);
	if (new_root) { /* what follows lies in it, and so does the workload */
		close(ex.root);
		ex.root = mount;
		return;
	}
	close(mount);
}

/* ---- overlay ---- */

/* fsconfig takes short values only: a long path goes by descriptor, under the name that it has in procfs. */
static void configure_path(int fs, const char *key, const char *path)
{
	char name[64];
	if (strlen(path) > LONGEST_VALUE) {
		int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		SYS(fd, "%s", key);
		snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
		path = name;
	}
	configure(fs, K_SET_STRING, key, path);
}

static size_t append(char *text, size_t at, size_t room, const char *more, bool escape)
{
	for (; *more; more++) {
		if (at + 2 >= room)
			fail(E2BIG, "the list of layers is too long");
		if (escape && (*more == ':' || *more == ',' || *more == '\\'))
			text[at++] = '\\';
		text[at++] = *more;
	}
	text[at] = '\0';
	return at;
}

/* Before Linux 6.7 overlay knows no `lowerdir+`: one string for mount(2), of a page at most. What all layers' paths
 * begin with is left out: they are given relative to that directory. */
static void overlay_by_string(char **argv, int layers)
{
	char text[4096], common[PATH_MAX];
	size_t at = 0, same = strlen(argv[4]);
	for (int i = 1; i < layers; i++)
		for (size_t n = 0; n < same; n++)
			if (argv[4 + i][n] != argv[4][n])
				same = n;
	while (same && argv[4][same - 1] != '/')
		same--;
	if (layers == 1 || same >= sizeof common)
		same = 0;
	memcpy(common, argv[4], same);
	common[same] = '\0';
	at = append(text, at, sizeof text, "lowerdir=", false);
	for (int i = 0; i < layers; i++) {
		at = append(text, at, sizeof text, i ? ":" : "", false);
		at = append(text, at, sizeof text, argv[4 + i] + same, true);
	}
	if (*argv[1]) {
		at = append(text, at, sizeof text, ",upperdir=", false);
		at = append(text, at, sizeof text, argv[1], true);
		at = append(text, at, sizeof text, ",workdir=", false);
		at = append(text, at, sizeof text, argv[2], true);
	}
	if (*argv[3]) {
		at = append(text, at, sizeof text, ",", false);
		append(text, at, sizeof text, argv[3], false);
	}
	if (same)
		SYS(chdir(common), "%s", common);
	SYS(mount("overlay", argv[0], "overlay", 0, text));
	SYS(chdir("/"), "/");
}

/* Before Linux 6.5 overlay takes any key at all with fsconfig, and finds at the end that it does not know it. */
static bool overlay_knows_keys(void)
{
	struct utsname kernel;
	char *end;
	if (uname(&kernel) < 0)
		return false;
	long major = strtol(kernel.release, &end, 10), minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
	return major > 6 || (major == 6 && minor >= 5);
}

void op_overlay(int argc, char **argv)
{
	int layers = argc - 4;
	if (!overlay_knows_keys()) {
		overlay_by_string(argv, layers);
		return;
	}
	int fs = open_filesystem("overlay");
	for (int i = 0; i < layers; i++) {
		if (i == 0 && strlen(argv[4]) <= LONGEST_VALUE && k_fsconfig(fs, K_SET_STRING, "lowerdir+", argv[4]) < 0) {
			if (errno != EINVAL)
				fail_with_log(fs, errno, argv[4]);
			close(fs);
			overlay_by_string(argv, layers);
			return;
		} else if (i > 0 || strlen(argv[4]) > LONGEST_VALUE) {
			configure_path(fs, "lowerdir+", argv[4 + i]);
		}
	}
	if (*argv[1]) {
		configure_path(fs, "upperdir", argv[1]);
		configure_path(fs, "workdir", argv[2]);
	}
	configure(fs, K_SET_STRING, "source", "overlay");
	configure_all(fs, argv[3]);
	configure(fs, K_CMD_CREATE, NULL, NULL);
	int mount = k_fsmount(fs, 0);
	if (mount < 0)
		fail_with_log(fs, errno, "");
	close(fs);
	int target = open(argv[0], O_PATH | O_DIRECTORY | O_CLOEXEC);
	SYS(target, "mount point");
	attach(mount, target);
}

/* ---- a new filesystem instance ---- */

void op_copy_up(int argc, char **argv)
{
	(void)argc;
	copy_up_target = argv[0];
	copy_up_from = in_open(argv[0], O_RDONLY | O_DIRECTORY);
	if (copy_up_from < 0 && errno != ENOENT)
		fail(errno, "");
}

static void copy_up(int mount, uint64_t attributes)
{
	int to = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	SYS(to, "copy");
	copy_content(copy_up_from, to);
	close(to);
	close(copy_up_from);
	copy_up_from = -1;
	copy_up_target = NULL;
	set_attributes(mount, attributes & MOUNT_ATTR_RDONLY, 0, false, 0);
}

/* A directory that is there lends its mode to what is mounted on it. */
static const char *add_mode(int target, const char *data, char *text, size_t room)
{
	struct stat st;
	SYS(fstat(target, &st), "mount point");
	int n = snprintf(text, room, "mode=%o%s%s", st.st_mode & 07777, *data ? "," : "", data);
	if (n >= (int)room)
		fail(ENAMETOOLONG, "options");
	return text;
}

/* What is masked and made read-only later lies at these paths: a link could send the filesystem elsewhere and leave a
 * forgery to be masked (CVE-2019-19921, CVE-2023-27561, CVE-2023-28642). */
static int plain_target(const char *path)
{
	int target = in_open_plain(path, O_PATH);
	if (target < 0 && errno != ENOENT)
		fail(errno, "mount point");
	if (target < 0) {
		close(in_make(path, false, 0755, NULL));
		SYS(target = in_open_plain(path, O_PATH), "mount point");
	}
	return target;
}

void op_mount(int argc, char **argv)
{
	const char *type = argv[0], *path = argv[2], *data = argv[4];
	char with_mode[4096];
	bool made = true;
	uint64_t attributes = hexadecimal(argv[3]);
	bool filled = copy_up_target && copy_up_from >= 0 && strcmp(copy_up_target, path) == 0;
	int target;
	if (strcmp(type, "proc") == 0 || strcmp(type, "sysfs") == 0) {
		target = plain_target(path);
	} else {
		target = in_make(path, false, 0755, &made);
	}
	if (argc > 5 && truth(argv[5]) && !made)
		data = add_mode(target, data, with_mode, sizeof with_mode);
	int mount = new_filesystem(type, argv[1], data, filled ? attributes & ~(uint64_t)MOUNT_ATTR_RDONLY : attributes);
	if (filled)
		copy_up(mount, attributes);
	attach(mount, target);
}

/* ---- bind ---- */

/* The link itself at the target, in place of what it leads to: 1, or 0 when the source is no link. */
static bool copy_link(const char *source, const char *path)
{
	char text[PATH_MAX], there[PATH_MAX], name[256];
	ssize_t n = readlink(source, text, sizeof text - 1);
	if (n < 0)
		return false;
	text[n] = '\0';
	int parent = in_parent(path, name);
	if (symlinkat(text, parent, name) < 0) {
		int error = errno;
		ssize_t m = error == EEXIST ? readlinkat(parent, name, there, sizeof there) : -1;
		if (m != n || memcmp(text, there, (size_t)n) != 0)
			fail(error, "link");
	}
	close(parent);
	return true;
}

static int bind_target(const char *path, const char *kind, int tree)
{
	struct stat st;
	SYS(fstat(tree, &st));
	bool file = has_word(kind, "file") || (has_word(kind, "auto") && !S_ISDIR(st.st_mode));
	if (has_word(kind, "plain"))
		return plain_target(path);
	if (has_word(kind, "target-link")) {
		struct statfs fs;
		int target = in_open(path, O_PATH | O_NOFOLLOW);
		if (target < 0 && errno != ENOENT)
			fail(errno, "mount point");
		if (target >= 0) {
			SYS(fstat(target, &st), "mount point");
			SYS(fstatfs(target, &fs), "mount point");
			/* Links there are the kernel's words about processes: nobody may put others in their place. */
			if (S_ISLNK(st.st_mode) && fs.f_type == K_PROC_MAGIC)
				fail(EPERM, "mount point");
			return target;
		}
	}
	return in_make(path, file, file ? 0644 : 0755, NULL);
}

/* What is cleared of the source's attributes: what was asked, with `exact` also what was not asked to be set. With `locked`
 * that may be none of those that protect the host, and to ask for one is an error (mount_namespaces(7)). */
static uint64_t cleared(int tree, const char *kind, uint64_t set, uint64_t clear)
{
	const uint64_t protecting = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	struct statvfs st;
	if (!has_word(kind, "exact"))
		return clear;
	uint64_t implied = (protecting | MOUNT_ATTR_NOSYMFOLLOW) & ~set;
	if (has_word(kind, "locked")) {
		SYS(fstatvfs(tree, &st)); /* the numbers are those of MOUNT_ATTR_* */
		if (st.f_flag & protecting & clear)
			fail(EPERM, "attributes of the source");
		implied &= ~(st.f_flag & protecting);
	}
	return clear | implied;
}

/* A source that begins with @ is one that S has prepared. */
static void bind_tree(char **argv, const char *uid_maps, const char *gid_maps, bool map_all)
{
	if (has_word(argv[2], "copy-link") && *argv[0] != '@' && copy_link(argv[0], argv[1]))
		return;
	int tree = *argv[0] == '@' ? prepared_take(argv[0] + 1) : clone_tree(argv[0], argv[2], truth(argv[3]));
	if (uid_maps)
		map_ids(tree, uid_maps, gid_maps, map_all);
	set_attributes(tree, hexadecimal(argv[6]), hexadecimal(argv[7]), true, 0);
	set_attributes(tree, hexadecimal(argv[4]), cleared(tree, argv[2], hexadecimal(argv[4]), hexadecimal(argv[5])), false, 0);
	set_propagation(tree, hexadecimal(argv[8]));
	attach(tree, bind_target(argv[1], argv[2], tree));
}

void op_bind(int argc, char **argv)
{
	(void)argc;
	bind_tree(argv, NULL, NULL, false);
}

void op_idmap_bind(int argc, char **argv)
{
	(void)argc;
	bind_tree(argv, argv[9], argv[10], truth(argv[11]));
}

void op_attach_propagation(int argc, char **argv)
{
	(void)argc;
	int fd = in_open(argv[0], O_PATH);
	SYS(fd);
	set_propagation(fd, hexadecimal(argv[1]));
	close(fd);
}

/* The superblock's own options, where the filesystem lets them be changed. */
static void reconfigure(int mount, const char *data)
{
	int fs = k_fspick(mount);
	SYS(fs, "options");
	configure_all(fs, data);
	configure(fs, K_CMD_RECONFIGURE, NULL, NULL);
	close(fs);
}

void op_remount(int argc, char **argv)
{
	int fd = in_open(argv[0], O_PATH);
	SYS(fd);
	set_attributes(fd, hexadecimal(argv[1]), hexadecimal(argv[2]), truth(argv[3]), 0);
	if (argc > 4 && *argv[4])
		reconfigure(fd, argv[4]);
	close(fd);
}
