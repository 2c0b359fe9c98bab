/* main.c: the commands of knarr-native. See docs/native.md. */
#include <stdio.h>
#include <string.h>

#include "attach.h"
#include "init.h"
#include "monitor.h"
#include "ops.h"

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	if (strcmp(command, "init") == 0)
		return init_main(argc - 1, argv + 1);
	if (strcmp(command, "monitor") == 0)
		return monitor_main(argc - 1, argv + 1);
	if (strcmp(command, "attach") == 0)
		return attach_main(argc - 1, argv + 1);
	if (strcmp(command, "ops") == 0) {
		ops_print();
		return 0;
	}
	dprintf(2, "usage: knarr-native init|monitor|attach|ops …\n");
	return 125;
}
