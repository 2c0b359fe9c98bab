/* prepared.h: detached trees, whether S has made them ready or C makes them itself. */
#ifndef KNARR_PREPARED_H
#define KNARR_PREPARED_H

#include <stdbool.h>

/* The tree in that slot, which is empty then. Ends the step when nothing is there. */
int prepared_take(const char *slot);

/* A copy of what is mounted at `source`. `kind` is that of `bind`: with `source-link` a link is not followed. */
int clone_tree(const char *source, const char *kind, bool recursive);

/* Maps the ids of its first mount, or of all. */
void map_ids(int tree, const char *uid_maps, const char *gid_maps, bool all);

/* Is `word` one of a list separated by commas? */
bool has_word(const char *list, const char *word);

#endif
