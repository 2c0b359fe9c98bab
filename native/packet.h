/* packet.h: receiving from a SOCK_SEQPACKET connection. */
#ifndef KNARR_PACKET_H
#define KNARR_PACKET_H

#include <stddef.h>
#include <sys/types.h>

/* As recv(2) with MSG_DONTWAIT and `flags`; 0 is the end. A peer that ended with something of ours unread is told to us
 * once, as ECONNRESET, and before what it still had sent (unix(7)): here that comes first. */
ssize_t packet_receive(int socket, void *bytes, size_t room, int flags);

#endif
