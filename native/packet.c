/* packet.c: recv(2) on a connection whose peer may have ended in the middle of things. */
#include "packet.h"

#include <errno.h>
#include <sys/socket.h>

ssize_t packet_receive(int socket, void *bytes, size_t room, int flags)
{
	ssize_t n = recv(socket, bytes, room, flags | MSG_DONTWAIT);
	if (n < 0 && errno == ECONNRESET)
		n = recv(socket, bytes, room, flags | MSG_DONTWAIT);
	return n;
}
