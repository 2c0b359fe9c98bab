/* netdevice.c: a network device of the host's goes over into a container's network namespace.
 *
 * The kernel forgets a device's addresses on the way. What was meant to last (global, permanent) is read before and given
 * again behind it; then the device is switched on (config-linux.md, Network Devices). */
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "executor.h"
#include "kernel.h"
#include "ops.h"

enum { ROOM = 512, MOST_ADDRESSES = 256 };

/* One request: a head, the family's own structure, attributes. */
struct message {
	_Alignas(4) unsigned char bytes[ROOM];
	size_t size;
};

static struct message addresses[MOST_ADDRESSES];
static int known;

static void begin(struct message *m, int type, int flags, const void *body, size_t size)
{
	struct nlmsghdr head = { .nlmsg_type = (unsigned short)type,
		                 .nlmsg_flags = (unsigned short)(NLM_F_REQUEST | flags) };
	m->size = NLMSG_HDRLEN + NLMSG_ALIGN(size);
	memset(m->bytes, 0, m->size);
	memcpy(m->bytes, &head, sizeof head);
	memcpy(m->bytes + NLMSG_HDRLEN, body, size);
}

static void add(struct message *m, int type, const void *data, size_t size)
{
	struct rtattr head = { .rta_len = (unsigned short)RTA_LENGTH(size), .rta_type = (unsigned short)type };
	if (m->size + RTA_SPACE(size) > ROOM)
		fail(E2BIG, "an address");
	memset(m->bytes + m->size, 0, RTA_SPACE(size));
	memcpy(m->bytes + m->size, &head, sizeof head);
	memcpy(m->bytes + m->size + RTA_LENGTH(0), data, size);
	m->size += RTA_SPACE(size);
}

static void transmit(int fd, struct message *m)
{
	unsigned length = (unsigned)m->size;
	memcpy(m->bytes, &length, sizeof length);
	SYS(send(fd, m->bytes, m->size, 0), "netlink");
}

static int netlink_socket(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	SYS(fd, "netlink");
	SYS(connect(fd, (struct sockaddr *)&kernel, sizeof kernel), "netlink");
	return fd;
}

/* Sends a request and waits for its answer: 0 or an errno. */
static int request(int fd, struct message *m)
{
	_Alignas(4) unsigned char answer[1024];
	struct nlmsghdr head;
	struct nlmsgerr error;
	transmit(fd, m);
	for (;;) {
		ssize_t n = recv(fd, answer, sizeof answer, 0);
		if (n < 0 && errno == EINTR)
			continue;
		SYS(n, "netlink");
		memcpy(&head, answer, sizeof head);
		if ((size_t)n < sizeof head + sizeof error || head.nlmsg_type != NLMSG_ERROR)
			continue;
		memcpy(&error, answer + sizeof head, sizeof error);
		return -error.error;
	}
}

/* One address of the dump, turned into the request that gives it again. Its index is filled in later. */
static void keep(const unsigned char *payload, size_t size, unsigned index)
{
	struct ifaddrmsg body;
	if (size < sizeof body)
		return;
	memcpy(&body, payload, sizeof body);
	unsigned flags = body.ifa_flags;
	struct message m;
	if (body.ifa_index != index || body.ifa_scope != RT_SCOPE_UNIVERSE)
		return;
	begin(&m, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &body, sizeof body);
	for (size_t at = NLMSG_ALIGN(sizeof body); at + sizeof(struct rtattr) <= size;) {
		struct rtattr attribute;
		memcpy(&attribute, payload + at, sizeof attribute);
		if (attribute.rta_len < sizeof attribute || attribute.rta_len > size - at)
			break;
		const unsigned char *data = payload + at + RTA_LENGTH(0);
		size_t length = attribute.rta_len - RTA_LENGTH(0);
		switch (attribute.rta_type) {
		case IFA_FLAGS:
			if (length == sizeof flags)
				memcpy(&flags, data, sizeof flags);
			break;
		case IFA_ADDRESS: case IFA_LOCAL: case IFA_BROADCAST: case IFA_RT_PRIORITY:
			add(&m, attribute.rta_type, data, length);
		}
		at += RTA_ALIGN(attribute.rta_len);
	}
	if (!(flags & IFA_F_PERMANENT))
		return;
	flags &= IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN;
	add(&m, IFA_FLAGS, &flags, sizeof flags);
	if (known == MOST_ADDRESSES)
		fail(E2BIG, "more than %d addresses", MOST_ADDRESSES);
	addresses[known++] = m;
}

static void read_addresses(int fd, unsigned index)
{
	static _Alignas(4) unsigned char answer[32768];
	struct ifaddrmsg body = { .ifa_family = AF_UNSPEC };
	struct message m;
	known = 0;
	begin(&m, RTM_GETADDR, NLM_F_DUMP, &body, sizeof body);
	transmit(fd, &m);
	for (;;) {
		ssize_t n = recv(fd, answer, sizeof answer, 0);
		if (n < 0 && errno == EINTR)
			continue;
		SYS(n, "addresses");
		for (size_t at = 0; at + sizeof(struct nlmsghdr) <= (size_t)n;) {
			struct nlmsghdr head;
			memcpy(&head, answer + at, sizeof head);
			if (head.nlmsg_type == NLMSG_DONE)
				return;
			if (head.nlmsg_type == NLMSG_ERROR || head.nlmsg_len < sizeof head || head.nlmsg_len > (size_t)n - at)
				fail(EIO, "addresses");
			keep(answer + at + NLMSG_HDRLEN, head.nlmsg_len - NLMSG_HDRLEN, index);
			at += NLMSG_ALIGN(head.nlmsg_len);
		}
	}
}

static int set_link(int fd, unsigned index, unsigned flags, const char *name, int namespace)
{
	struct ifinfomsg body = { .ifi_index = (int)index, .ifi_flags = flags, .ifi_change = flags };
	struct message m;
	begin(&m, RTM_NEWLINK, NLM_F_ACK, &body, sizeof body);
	if (name)
		add(&m, IFLA_IFNAME, name, strlen(name) + 1);
	if (namespace >= 0)
		add(&m, IFLA_NET_NS_FD, &namespace, sizeof namespace);
	return request(fd, &m);
}

/* In the container's namespace: its name for good, its addresses, and on. 0 or an errno, with what it was about. */
static int settle(const char *temporary, const char *name, const char **what)
{
	int fd = netlink_socket(), error;
	unsigned index = if_nametoindex(temporary);
	*what = name;
	if (!index)
		return ENODEV;
	if ((error = set_link(fd, index, 0, name, -1)))
		return error;
	*what = "an address";
	for (int i = 0; i < known; i++) {
		struct ifaddrmsg *body = (struct ifaddrmsg *)(void *)(addresses[i].bytes + NLMSG_HDRLEN);
		body->ifa_index = index;
		if ((error = request(fd, &addresses[i])) && error != EEXIST)
			return error;
	}
	*what = "up";
	error = set_link(fd, index, IFF_UP, NULL, -1);
	close(fd);
	return error;
}

static void enter(int namespace)
{
	SYS(setns(namespace, CLONE_NEWNET), "network namespace");
}

/* name new-name [namespace]: into that namespace, else into C's. */
void op_net_device(int argc, char **argv)
{
	char temporary[IFNAMSIZ];
	const char *what;
	if (strlen(argv[0]) >= IFNAMSIZ || strlen(argv[1]) >= IFNAMSIZ || (argc < 3 && ex.child <= 0))
		fail(EINVAL, "");
	unsigned index = if_nametoindex(argv[0]);
	SYS(index ? 0 : -1);
	int own = open_proc(0, "ns/net", O_RDONLY);
	SYS(own, "network namespace");
	int theirs = argc > 2 ? open(argv[2], O_RDONLY | O_CLOEXEC) : open_proc(ex.child, "ns/net", O_RDONLY);
	SYS(theirs, "network namespace");
	int fd = netlink_socket();
	read_addresses(fd, index);

	/* Who has that name already is asked before anything is changed. */
	enter(theirs);
	bool taken = !strchr(argv[1], '%') && if_nametoindex(argv[1]);
	enter(own);
	if (taken)
		fail(EEXIST, "%s", argv[1]);

	/* Under a name nobody has: by it the device is found on the other side, where its number may be another. */
	snprintf(temporary, sizeof temporary, "k%u.%d", index, (int)getpid());
	int error = set_link(fd, index, 0, temporary, theirs);
	close(fd);
	if (error)
		fail(error, "");
	enter(theirs);
	error = settle(temporary, argv[1], &what);
	enter(own);
	close(own);
	close(theirs);
	if (error)
		fail(error, "%s", what);
}
