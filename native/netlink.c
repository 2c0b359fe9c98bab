/* netlink.c: sends messages that were built elsewhere, and waits for the kernel's answers. */
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "executor.h"
#include "ops.h"

enum { MOST = 1 << 20 };

/* How many acknowledgements the messages ask for. */
static int asked_for(const unsigned char *bytes, size_t size)
{
	int n = 0;
	for (size_t at = 0; at < size;) {
		struct nlmsghdr head;
		if (size - at < sizeof head)
			fail(EINVAL, "a netlink message is cut off");
		memcpy(&head, bytes + at, sizeof head);
		if (head.nlmsg_len < sizeof head || head.nlmsg_len > size - at)
			fail(EINVAL, "a netlink message is cut off");
		n += (head.nlmsg_flags & NLM_F_ACK) != 0;
		at += ((size_t)head.nlmsg_len + 3) & ~(size_t)3;
	}
	return n;
}

/* The kernel's own words, if it has any (NETLINK_EXT_ACK), else the sequence number of the message. */
static void complain(const unsigned char *message, size_t size, const struct nlmsgerr *answer)
{
	size_t at = sizeof(struct nlmsghdr) + sizeof *answer;
	struct nlmsghdr head;
	memcpy(&head, message, sizeof head);
	if (!(head.nlmsg_flags & NLM_F_CAPPED) && answer->msg.nlmsg_len > sizeof answer->msg)
		at += answer->msg.nlmsg_len - sizeof answer->msg;
	while (head.nlmsg_flags & NLM_F_ACK_TLVS && at + 4 <= size) {
		unsigned short length, type;
		memcpy(&length, message + at, 2);
		memcpy(&type, message + at + 2, 2);
		if (length < 4 || length > size - at)
			break;
		if ((type & 0x3fff) == 1 /* NLMSGERR_ATTR_MSG */)
			fail(-answer->error, "%.*s", (int)(length - 4), (const char *)message + at + 4);
		at += (length + 3U) & ~3U;
	}
	fail(-answer->error, "");
}

static int answers_in(const unsigned char *bytes, size_t size)
{
	int n = 0;
	for (size_t at = 0; at + sizeof(struct nlmsghdr) <= size;) {
		struct nlmsghdr head;
		struct nlmsgerr answer;
		memcpy(&head, bytes + at, sizeof head);
		if (head.nlmsg_len < sizeof head || head.nlmsg_len > size - at)
			break;
		if (head.nlmsg_type == NLMSG_ERROR && head.nlmsg_len >= sizeof head + sizeof answer) {
			memcpy(&answer, bytes + at + sizeof head, sizeof answer);
			if (answer.error)
				complain(bytes + at, head.nlmsg_len, &answer);
			n++;
		}
		at += ((size_t)head.nlmsg_len + 3) & ~(size_t)3;
	}
	return n;
}

void op_netlink(int argc, char **argv)
{
	size_t size = strlen(argv[1]) / 2;
	if (size == 0 || size > MOST)
		fail(E2BIG, "");
	unsigned char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (bytes == MAP_FAILED)
		fail(ENOMEM, "");
	from_hex(argv[1], bytes, size);
	if (argc > 2) {
		uint32_t pid = (uint32_t)ex.child;
		long long offset = decimal(argv[2]);
		if (ex.child <= 0 || offset < 0 || (size_t)offset + sizeof pid > size)
			fail(EINVAL, "no place for the process's number");
		memcpy(bytes + offset, &pid, sizeof pid);
	}
	int missing = asked_for(bytes, size), on = 1;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, (int)decimal(argv[0]));
	SYS(fd);
	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on); /* since Linux 4.12; only for the message */
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	ssize_t sent = sendto(fd, bytes, size, 0, (struct sockaddr *)&kernel, sizeof kernel);
	SYS(sent);
	while (missing > 0) {
		static unsigned char answer[8192];
		ssize_t n = recv(fd, answer, sizeof answer, 0);
		if (n < 0 && errno == EINTR)
			continue;
		SYS(n);
		missing -= answers_in(answer, (size_t)n);
	}
	munmap(bytes, size);
	close(fd);
}
