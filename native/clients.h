/* clients.h: attach connections. */
#ifndef KNARR_CLIENTS_H
#define KNARR_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>

/* `listener` and `primary` may be -1. The hello says `tty` or `pipe`, and whether there is standard input. */
void clients_start(int listener, int primary, bool tty, bool input);

/* Where the next output is read to; NULL while a client has not taken the message before. */
char *clients_buffer(void);
/* What was read there goes to every client. */
void clients_send(char type, size_t size);

void clients_watch(void);
void clients_serve(void);

/* The input message of this client has gone its way. */
void clients_input_taken(int client);

/* From here on nothing waits for a client: what it has not taken is kept for it. New clients are turned away. */
void clients_last_words(void);
/* The last message. */
void clients_exit(int code);
/* Has everybody been told everything? */
bool clients_done(void);
/* Closes all connections. */
void clients_close(void);

#endif
