/* seed.c: a new volume begins with what the image has where it is mounted. In C's process, in its user namespace.
 *
 * The marker says that the volume is new. It is locked while the content is copied, since two containers may start with
 * the same new volume, and removed after it: what a kill left half copied is cleared and copied again. */
#include "beneath.h"
#include "executor.h"
#include "kernel.h"
#include "ops.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool still_new(int marker)
{
	struct stat st;
	SYS(flock(marker, LOCK_EX), "marker");
	SYS(fstat(marker, &st), "marker");
	return st.st_nlink > 0;
}

void op_seed(int argc, char **argv)
{
	(void)argc;
	int marker = open(argv[2], O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (marker < 0 && errno == ENOENT)
		return;
	SYS(marker, "marker");
	if (still_new(marker)) {
		int to = open(argv[0], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		SYS(to, "volume");
		int from = in_open(argv[1], O_RDONLY | O_DIRECTORY);
		if (from < 0 && errno != ENOENT && errno != ENOTDIR)
			fail(errno, "");
		if (from >= 0) {
			clear_directory(to);
			copy_content(from, to);
			close(from);
		}
		SYS(fsync(to), "volume");
		close(to);
		SYS(unlink(argv[2]), "marker");
	}
	close(marker);
}
