/* seal.c: the executor runs from a sealed copy of itself in memory.
 *
 * A process in the container can reach the program of whoever joins it through /proc/PID/exe, and a workload may be
 * told to execute /proc/self/exe. Opened for writing, that must never be the file on the host (CVE-2019-5736). */
#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel.h"

enum { SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

bool sealed(void)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	int seals = fcntl(fd, F_GET_SEALS); /* fails for anything that is not a memfd */
	close(fd);
	return seals >= 0 && (seals & SEALS) == SEALS;
}

static int copy_of_self(void)
{
	int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (self < 0)
		return -1;
	struct stat st;
	int copy = (int)syscall(SYS_memfd_create, "knarr-native", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (copy < 0 && errno == EINVAL) /* MFD_EXEC is Linux 6.3 */
		copy = (int)syscall(SYS_memfd_create, "knarr-native", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (copy < 0 || fstat(self, &st) < 0)
		return -1;
	for (off_t left = st.st_size; left > 0;) {
		ssize_t n = sendfile(copy, self, NULL, (size_t)left);
		if (n <= 0)
			return -1;
		left -= n;
	}
	close(self);
	return fcntl(copy, F_ADD_SEALS, SEALS) < 0 ? -1 : copy;
}

void seal_and_exec(char **argv, char **env)
{
	int copy = copy_of_self();
	if (copy >= 0)
		syscall(SYS_execveat, copy, "", argv, env, AT_EMPTY_PATH);
}
