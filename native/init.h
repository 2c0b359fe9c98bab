/* init.h: `knarr-native init`, and what the monitor uses of it. */
#ifndef KNARR_INIT_H
#define KNARR_INIT_H

int init_main(int argc, char **argv);

/* Become `knarr-native init PLAN STATUS [wait]` in a sealed copy of this program. Does not return. */
_Noreturn void init_become(int plan, int status, char **env);

/* A plan has failed and has been reported: S takes C with it. Does not return. */
_Noreturn void init_give_up(void);

/* C to S, see init.c; nothing happens when S is gone or this is no C. */
void init_tell_setter(char letter);

enum { EXIT_FAILED = 125 };

#endif
