/* proto.h: messages of an attach connection (SOCK_SEQPACKET): a letter and its payload. See docs/native.md. */
#ifndef KNARR_PROTO_H
#define KNARR_PROTO_H

enum {
	/* to the client */
	TO_OUT = 'o', TO_ERR = 'e', TO_EXIT = 'x', TO_HELLO = 'h', TO_TAKEN = 'k',
	/* to the monitor */
	FROM_INPUT = 'i', FROM_END = 'c', FROM_SIZE = 'w', FROM_SIGNAL = 's', FROM_DETACH = 'd', FROM_NO_INPUT = 'q',
};

enum { PAYLOAD = 32768, MESSAGE = PAYLOAD + 1 };

/* A large buffer begins on a page of its own: the linker puts these together, so that what is used all the time
 * lies on few pages, and a monitor with nothing to do stays small. */
#define BUFFER static _Alignas(4096) char

#endif
