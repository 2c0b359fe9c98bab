/* streams.h: the container's standard input, output and error, as the monitor holds them. */
#ifndef KNARR_STREAMS_H
#define KNARR_STREAMS_H

#include <stdbool.h>
#include <stddef.h>

enum streams_input { INPUT_NONE, INPUT_OPEN, INPUT_ONCE };

/* Makes the pipes (none with a terminal: that comes by streams_terminal). False with errno. */
bool streams_start(bool tty, enum streams_input input);
/* The container's ends: of 0, 1, 2; -1 is /dev/null. */
int streams_container_end(int number);
void streams_close_container_ends(void);

/* The master that C has sent, and the size it begins with (0: as it is). */
void streams_terminal(int master);
void streams_resize(unsigned short rows, unsigned short columns);

void streams_watch(void);
/* Look again after that time even when nothing has come; -1 is no need. */
int streams_patience_ms(void);
/* Moves what there is. False when there was nothing to read. */
bool streams_serve(void);
/* Has all output come? */
bool streams_ended(void);
/* The container is dead: a terminal without the other end has ended. */
void streams_container_dead(void);
/* Gives up what is still open. */
void streams_close(void);

/* Room for one input message (PAYLOAD bytes); NULL while the one before is on its way. */
char *streams_input_room(void);
/* That many bytes were put there by that client. */
void streams_input(size_t size, int client);
/* A client has no more input. */
void streams_input_closed(void);

#endif
