/* seed.c: an empty volume begins with what the image has where it is mounted. In C's process, in its user namespace.
 *
 * The marker is a file beside the volume, locked while the content is copied, since two containers may start with the
 * same empty volume, and removed after it. Something is written in it before the first file is copied: a marker that is
 * found so tells of a copy that was cut off, which is cleared away and made again. */
#include "beneath.h"
#include "directory.h"
#include "executor.h"
#include "kernel.h"
#include "ops.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_empty(int dir)
{
	struct listing list = { .dir = dir };
	rewind_listing(&list);
	return !next_entry(&list);
}

static void fill(int to, const char *source)
{
	int from = in_open(source, O_RDONLY | O_DIRECTORY);
	if (from < 0 && errno != ENOENT && errno != ENOTDIR)
		fail(errno, "");
	if (from < 0)
		return;
	copy_content(from, to);
	close(from);
	SYS(fsync(to), "volume");
}

void op_seed(int argc, char **argv)
{
	(void)argc;
	struct stat st;
	int to = open(argv[0], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	SYS(to, "volume");
	int marker = open(argv[2], O_RDWR | O_NOFOLLOW | O_CLOEXEC | (is_empty(to) ? O_CREAT : 0), 0600);
	if (marker < 0 && errno == ENOENT) {
		close(to);
		return;
	}
	SYS(marker, "marker");
	SYS(flock(marker, LOCK_EX), "marker");
	SYS(fstat(marker, &st), "marker");
	if (st.st_nlink > 0) { /* else another container was quicker */
		if (st.st_size > 0)
			clear_directory(to);
		if (is_empty(to)) {
			SYS(write(marker, "copying\n", 8), "marker");
			fill(to, argv[1]);
		}
		if (unlink(argv[2]) < 0 && errno != ENOENT)
			fail(errno, "marker");
	}
	close(marker);
	close(to);
}
