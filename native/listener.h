/* listener.h: the agent that gets the notify descriptor of a seccomp filter. */
#ifndef KNARR_LISTENER_H
#define KNARR_LISTENER_H

/* S has connected for C, and keeps nothing of it. */
void listener_leave_to_child(void);

/* Before the filter is loaded: who hands over its descriptor, with the document that `parts` are. */
void listener_prepare(char **parts, int count);

/* The descriptor goes to the agent, or (negative) there is none. 0, or the errno of what failed. */
int listener_take(int fd);

#endif
