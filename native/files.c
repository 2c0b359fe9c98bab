/* files.c: operations on files of the host. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor.h"
#include "ops.h"
#include "tree.h"

static bool absent(int error)
{
	return error == ENOENT || error == ENOTDIR;
}

void op_mkdir(int argc, char **argv)
{
	(void)argc;
	struct stat st;
	if (mkdir(argv[0], octal(argv[1])) == 0)
		return;
	if (errno != EEXIST)
		fail(errno, "");
	SYS(stat(argv[0], &st));
	if (!S_ISDIR(st.st_mode))
		fail(ENOTDIR, "");
}

void op_rmdir(int argc, char **argv)
{
	(void)argc;
	remove_directory(argv[0]);
}

void op_rmtree(int argc, char **argv)
{
	(void)argc;
	remove_tree(argv[0]);
}

void op_unlink(int argc, char **argv)
{
	(void)argc;
	if (unlink(argv[0]) < 0 && !absent(errno))
		fail(errno, "");
}

void op_symlink(int argc, char **argv)
{
	(void)argc;
	SYS(symlink(argv[0], argv[1]));
}

void op_rename(int argc, char **argv)
{
	(void)argc;
	SYS(rename(argv[0], argv[1]));
}

/* No O_TRUNC, no O_CREAT: this is for files of the kernel, which take a value in one write. */
void op_write(int argc, char **argv)
{
	(void)argc;
	int fd = open(argv[0], O_WRONLY | O_CLOEXEC);
	SYS(fd);
	write_all_once(fd, argv[1], strlen(argv[1]));
	close(fd);
}

static int try_write(const char *path, const char *data)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	size_t size = strlen(data);
	ssize_t n = write(fd, data, size);
	int error = n < 0 ? errno : (size_t)n == size ? 0 : EIO;
	close(fd);
	return error;
}

/* Kernels name the same thing differently: the first of these files that there is. */
void op_write_first(int argc, char **argv)
{
	int error = EINVAL;
	for (int i = 0; i + 1 < argc; i += 2) {
		error = try_write(argv[i], argv[i + 1]);
		if (error != ENOENT)
			break;
	}
	if (error)
		fail(error, "");
}

/* Two values of which the kernel refuses one that does not fit the other: which must change first depends on what is
 * there now. */
void op_write_both(int argc, char **argv)
{
	(void)argc;
	int error = try_write(argv[0], argv[1]);
	if (error && error != EINVAL)
		fail(error, "%s", argv[0]);
	bool again = error == EINVAL;
	if ((error = try_write(argv[2], argv[3])))
		fail(error, "%s", argv[2]);
	if (again && (error = try_write(argv[0], argv[1])))
		fail(error, "%s", argv[0]);
}

void op_write_file(int argc, char **argv)
{
	(void)argc;
	char beside[4096 + 16];
	if (snprintf(beside, sizeof beside, "%s.%d~", argv[0], (int)getpid()) >= (int)sizeof beside)
		fail(ENAMETOOLONG, "");
	unlink(beside);
	int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, octal(argv[1]));
	SYS(fd);
	size_t size = strlen(argv[2]);
	ssize_t n = write(fd, argv[2], size);
	int error = n < 0 ? errno : EIO;
	close(fd);
	if (n == (ssize_t)size && rename(beside, argv[0]) == 0)
		return;
	if (n == (ssize_t)size)
		error = errno;
	unlink(beside);
	fail(error, "");
}

void op_umount(int argc, char **argv)
{
	(void)argc;
	if (umount2(argv[0], MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && !absent(errno))
		fail(errno, "");
}
