/* tree.c: removing and copying trees whose content may be anything: deep, unreadable, full of links. */
#include "tree.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "directory.h"
#include "executor.h"
#include "kernel.h"

enum { DEEPEST = 32 };

static void via_proc(char path[32], int fd)
{
	snprintf(path, 32, "self/fd/%d", fd);
}

/* Not through a link, not into another mount. A directory without rights is given them: it is ours to remove. */
static int open_below(int dir, const char *name)
{
	const uint64_t resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH;
	int flags = O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = k_openat2(dir, name, flags | O_RDONLY, 0, resolve);
	if (fd >= 0 || errno != EACCES)
		return fd;
	int handle = k_openat2(dir, name, flags | O_PATH, 0, resolve);
	if (handle < 0)
		return handle;
	char path[32];
	via_proc(path, handle);
	int done = fchmodat(ex.proc, path, 0700, 0);
	close(handle);
	return done < 0 ? done : k_openat2(dir, name, flags | O_RDONLY, 0, resolve);
}

static int unlink_in(int dir, const char *name, int flags)
{
	int done = unlinkat(dir, name, flags);
	if (done < 0 && errno == EACCES && fchmod(dir, 0700) == 0)
		done = unlinkat(dir, name, flags);
	return done;
}

/* Empties `dir`. `top` is the directory whose removal was asked for: what lies too deep is moved up to it, and
 * found there later, so neither the stack nor the descriptors run out. */
static void empty(int dir, int top, int depth)
{
	static unsigned moved;
	struct listing list = { .dir = dir };
	for (bool again = true; again;) {
		again = false;
		rewind_listing(&list);
		for (const struct entry *e; (e = next_entry(&list));) {
			again = true; /* a listing may miss entries while others are being removed: look once more */
			if (e->type != IS_DIR && unlink_in(dir, e->name, 0) == 0)
				continue;
			if (e->type != IS_DIR && errno == ENOENT)
				continue;
			if (e->type != IS_DIR && !(e->type == IS_UNKNOWN && (errno == EISDIR || errno == EPERM)))
				fail(errno, "%s", e->name);
			if (unlink_in(dir, e->name, AT_REMOVEDIR) == 0 || errno == ENOENT)
				continue;
			if (errno != ENOTEMPTY && errno != EEXIST && errno != EACCES)
				fail(errno, "%s", e->name);
			if (depth == DEEPEST) {
				char name[40];
				snprintf(name, sizeof name, ".knarr-deep-%d-%u", (int)getpid(), moved++);
				SYS(renameat(dir, e->name, top, name), "%s", e->name);
				continue;
			}
			int below = open_below(dir, e->name);
			if (below < 0 && errno == ENOENT)
				continue; /* another command removes the same */
			SYS(below, "%s", e->name);
			empty(below, top, depth + 1);
			close(below);
			if (unlink_in(dir, e->name, AT_REMOVEDIR) < 0 && errno != ENOENT)
				fail(errno, "%s", e->name);
		}
	}
}

static void rmdir_patiently(int dir, const char *path);

void remove_tree(const char *path)
{
	struct stat st;
	if (fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return;
		fail(errno, "");
	}
	if (!S_ISDIR(st.st_mode)) {
		SYS(unlink(path));
		return;
	}
	if (rmdir(path) == 0)
		return;
	/* The last name is what must be no link; the way to it is the host's. */
	int dir = open(path, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_RDONLY);
	if (dir < 0 && errno == EACCES && chmod(path, 0700) == 0)
		dir = open(path, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_RDONLY);
	if (dir < 0 && errno == ENOENT)
		return;
	SYS(dir);
	empty(dir, dir, 0);
	close(dir);
	if (rmdir(path) < 0 && errno != ENOENT)
		fail(errno, "");
}

void clear_directory(int dir)
{
	empty(dir, dir, 0);
}

static bool is_cgroup(int dir)
{
	struct statfs fs;
	return fstatfs(dir, &fs) == 0 && (fs.f_type == K_CGROUP_MAGIC || fs.f_type == K_CGROUP2_MAGIC);
}

/* A cgroup's files go with it, but the cgroups that the workload made in it have to be removed first. */
static void remove_child_cgroups(int parent, const char *name)
{
	int dir = openat(parent, name, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_RDONLY);
	if (dir < 0)
		return;
	struct listing list = { .dir = dir };
	if (is_cgroup(dir))
		for (const struct entry *e; (e = next_entry(&list));)
			if (e->type == IS_DIR)
				rmdir_patiently(dir, e->name);
	close(dir);
}

/* A cgroup whose last process has just died is busy for another moment. */
static void rmdir_patiently(int dir, const char *path)
{
	for (int waited_ms = 0, pause_ms = 1;; waited_ms += pause_ms, pause_ms = pause_ms < 16 ? pause_ms * 2 : 16) {
		if (unlinkat(dir, path, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return;
		if (errno != EBUSY || waited_ms > 1000)
			fail(errno, "");
		remove_child_cgroups(dir, path);
		if (unlinkat(dir, path, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return;
		nanosleep(&(struct timespec){ .tv_nsec = pause_ms * 1000000L }, NULL);
	}
}

void remove_directory(const char *path)
{
	rmdir_patiently(AT_FDCWD, path);
}

/* ---- copying ---- */

static void copy_attributes(int from, int to)
{
	char names[4096], value[4096];
	ssize_t size = flistxattr(from, names, sizeof names);
	for (const char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
		ssize_t n = fgetxattr(from, name, value, sizeof value);
		if (n >= 0) /* a tmpfs does not take every kind: what it does not take is left out, as cp does */
			fsetxattr(to, name, value, (size_t)n, 0);
	}
}

static void copy_meta(int from, int to, const struct stat *st)
{
	copy_attributes(from, to);
	SYS(fchown(to, st->st_uid, st->st_gid), "copy");
	SYS(fchmod(to, st->st_mode & 07777), "copy");
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	SYS(futimens(to, times), "copy");
}

static void copy_file(int from, int dir, const char *name, const struct stat *st)
{
	static _Alignas(4096) char bytes[32768];
	int to = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	SYS(to, "%s", name);
	for (ssize_t n; (n = read(from, bytes, sizeof bytes)) != 0;) {
		SYS(n, "%s", name);
		for (ssize_t done = 0, m; done < n; done += m)
			SYS(m = write(to, bytes + done, (size_t)(n - done)), "%s", name);
	}
	copy_meta(from, to, st);
	close(to);
}

static void copy_link_or_node(int from, int to, const char *name, const struct stat *st)
{
	if (S_ISLNK(st->st_mode)) {
		char text[4096];
		ssize_t n = readlinkat(from, name, text, sizeof text - 1);
		SYS(n, "%s", name);
		text[n] = '\0';
		SYS(symlinkat(text, to, name), "%s", name);
	} else {
		SYS(mknodat(to, name, st->st_mode, st->st_rdev), "%s", name);
	}
	SYS(fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW), "%s", name);
}

static void copy_below(int from, int to, int depth)
{
	struct listing list = { .dir = from };
	if (depth > DEEPEST)
		fail(ELOOP, "too deep to copy");
	for (const struct entry *e; (e = next_entry(&list));) {
		struct stat st;
		SYS(fstatat(from, e->name, &st, AT_SYMLINK_NOFOLLOW), "%s", e->name);
		if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) {
			copy_link_or_node(from, to, e->name, &st);
			continue;
		}
		int fd = k_openat2(from, e->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0, RESOLVE_NO_XDEV | RESOLVE_BENEATH);
		if (fd < 0 && errno == EXDEV)
			continue;
		SYS(fd, "%s", e->name);
		if (S_ISREG(st.st_mode)) {
			copy_file(fd, to, e->name, &st);
		} else {
			SYS(mkdirat(to, e->name, 0700), "%s", e->name);
			int below = openat(to, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			SYS(below, "%s", e->name);
			copy_below(fd, below, depth + 1);
			copy_meta(fd, below, &st);
			close(below);
		}
		close(fd);
	}
}

void copy_content(int from, int to)
{
	struct stat st;
	copy_below(from, to, 0);
	SYS(fstat(from, &st), "copy");
	copy_meta(from, to, &st);
}
