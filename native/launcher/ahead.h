/* ahead.h: what of knarr-runtime needs no interpreter, because `create` has written down all that is left to do. */
#ifndef KNARR_AHEAD_H
#define KNARR_AHEAD_H

/* `start ID` or `delete ID` on these words. 0 when it is done; -1 when it is Python's: it may then have been begun, and is
 * begun anew. Says nothing: what goes wrong is told by who does it again. */
int ahead(int argc, char **argv);

#endif
