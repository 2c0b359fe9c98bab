/* beneath.c: paths inside the container's root.
 *
 * What lies there may be hostile, and may change while we look (a volume shared with a running container). So a path is
 * resolved by one openat2 with the root as its end of the world, and everything is done to the descriptor. */
#include "beneath.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor.h"
#include "kernel.h"

static int resolve(const char *path, int flags, uint64_t more)
{
	if (ex.root < 0)
		SYS(ex.root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), "root");
	while (*path == '/')
		path++;
	if (!*path)
		path = ".";
	int fd = -1;
	for (int tries = 0; tries < 64; tries++) {
		fd = k_openat2(ex.root, path, flags | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | more);
		if (fd >= 0 || errno != EAGAIN) /* EAGAIN: something was renamed meanwhile */
			break;
	}
	return fd;
}

int in_open(const char *path, int flags)
{
	return resolve(path, flags, 0);
}

int in_open_plain(const char *path, int flags)
{
	return resolve(path, flags, RESOLVE_NO_SYMLINKS);
}

static int make(const char *path, bool file, mode_t mode, bool *made, int links);

static int make_entry(int dir, const char *name, bool file, mode_t mode)
{
	if (!file)
		return mkdirat(dir, name, mode);
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd >= 0)
		close(fd);
	return fd;
}

/* A link to something that is not there: what it points to is made. `length` is that of the path up to the link. */
static int make_behind_link(int dir, const char *name, const char *path, size_t length, bool file, mode_t mode, bool *made,
                            int links)
{
	char target[PATH_MAX], whole[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof target - 1);
	if (n < 0) /* no link: somebody made it in the meantime, or it is no directory */
		fail(errno == EINVAL ? ENOTDIR : errno, "%.200s", path);
	if (links >= 16)
		fail(ELOOP, "%.200s", path);
	target[n] = '\0';
	int before = target[0] == '/' ? 0 : (int)(length - strlen(name));
	if (snprintf(whole, sizeof whole, "%.*s%s%s", before, path, target, path + length) >= (int)sizeof whole)
		fail(ENAMETOOLONG, "%.200s", path);
	close(dir);
	return make(whole, file, mode, made, links + 1);
}

static int make(const char *path, bool file, mode_t mode, bool *made, int links)
{
	char prefix[PATH_MAX];
	int fd = in_open(path, O_PATH);
	if (fd >= 0 || errno != ENOENT) {
		SYS(fd);
		return fd;
	}
	while (*path == '/')
		path++;
	size_t size = strlen(path);
	while (size && path[size - 1] == '/')
		size--;
	if (size >= sizeof prefix)
		fail(ENAMETOOLONG, "%.200s", path);
	int dir = in_open("/", O_PATH | O_DIRECTORY);
	SYS(dir, "root");
	for (size_t start = 0, end; start < size; start = end + strspn(path + end, "/")) {
		end = start + strcspn(path + start, "/");
		bool last = end == size;
		memcpy(prefix, path, end);
		prefix[end] = '\0';
		int next = in_open(prefix, O_PATH);
		if (next < 0 && errno == ENOENT) {
			if (make_entry(dir, prefix + start, file && last, last ? mode : 0755) < 0) {
				if (errno != EEXIST)
					fail(errno, "%.200s", prefix);
				next = in_open(prefix, O_PATH);
				if (next < 0)
					return make_behind_link(dir, prefix + start, path, end, file, mode, made, links);
			} else {
				if (made && last)
					*made = true;
				next = in_open(prefix, O_PATH);
			}
		}
		SYS(next, "%.200s", prefix);
		close(dir);
		dir = next;
	}
	return dir;
}

int in_make(const char *path, bool file, mode_t mode, bool *made)
{
	if (made)
		*made = false;
	return make(path, file, mode, made, 0);
}

int in_parent(const char *path, char name[256])
{
	char parent[PATH_MAX];
	size_t end = strlen(path);
	while (end && path[end - 1] == '/')
		end--;
	size_t start = end;
	while (start && path[start - 1] != '/')
		start--;
	if (end == start || end - start > 255 || start >= sizeof parent)
		fail(EINVAL, "no name");
	memcpy(name, path + start, end - start);
	name[end - start] = '\0';
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		fail(EINVAL, "no name");
	memcpy(parent, path, start);
	parent[start] = '\0';
	int fd = in_make(parent, false, 0755, NULL);
	struct stat st;
	SYS(fstat(fd, &st));
	if (!S_ISDIR(st.st_mode))
		fail(ENOTDIR, "");
	return fd;
}
