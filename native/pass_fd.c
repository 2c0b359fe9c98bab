/* pass_fd.c: SCM_RIGHTS, unix(7). */
#include "pass_fd.h"

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

union control {
	struct cmsghdr head;
	char bytes[CMSG_SPACE(sizeof(int))];
};

ssize_t pass_fd_with(int socket, int fd, const char *text, size_t size)
{
	union control control = { .bytes = { 0 } };
	struct iovec data = { .iov_base = (void *)(uintptr_t)text, .iov_len = size };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes,
		                  .msg_controllen = sizeof control.bytes };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(head), &fd, sizeof fd);
	return sendmsg(socket, &message, MSG_NOSIGNAL);
}

int pass_fd(int socket, int fd, const char *word)
{
	return pass_fd_with(socket, fd, word, strlen(word)) < 0 ? -1 : 0;
}

int receive_fd(int socket)
{
	union control control;
	char text[64];
	int fd = -1;
	struct iovec data = { .iov_base = text, .iov_len = sizeof text };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes,
		                  .msg_controllen = sizeof control.bytes };
	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) <= 0)
		return -1;
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS && head->cmsg_len == CMSG_LEN(sizeof fd))
		memcpy(&fd, CMSG_DATA(head), sizeof fd);
	return fd;
}
