/* tree.h: whole directories. */
#ifndef KNARR_TREE_H
#define KNARR_TREE_H

/* Each ends the step when it cannot do it. */
void remove_tree(const char *path);
void remove_directory(const char *path);
void clear_directory(int dir);

/* Copies what is in the directory `from` into the directory `to`: files, directories, links, nodes, with owners, modes
 * and extended attributes. Does not cross mounts. */
void copy_content(int from, int to);

#endif
