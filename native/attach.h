/* attach.h: `knarr-native attach`. */
#ifndef KNARR_ATTACH_H
#define KNARR_ATTACH_H

int attach_main(int argc, char **argv);

#endif
