/* monitor_options.c: KEY=VALUE words. docs/native.md lists them. */
#include "monitor_options.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "relay.h"

_Noreturn static void refuse(const char *word)
{
	dprintf(2, "knarr-native: monitor: bad argument '%s'\n", word);
	exit(125);
}

static uint64_t number(const char *word, const char *text, uint64_t most)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);
	if (end == text || *end || *text == '-' || n > most)
		refuse(word);
	return n;
}

static int descriptor(const char *word, const char *text)
{
	int fd = (int)number(word, text, INT_MAX);
	if (fd < 3 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		refuse(word);
	return fd;
}

static enum log_driver driver(const char *word, const char *name)
{
	if (strcmp(name, "k8s-file") == 0)
		return LOG_K8S_FILE;
	if (strcmp(name, "json-file") == 0)
		return LOG_JSON_FILE;
	if (strcmp(name, "none") != 0)
		refuse(word);
	return LOG_NONE;
}

struct monitor_options monitor_options(int argc, char **argv)
{
	struct monitor_options o = { .plan = -1, .status = -1, .primary = -1, .listener = -1, .teardown = -1,
		                     .lock = -1, .max_files = 1 };
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i], *value = strchr(word, '=');
		if (strcmp(word, "--") == 0) {
			o.exit_command = i + 1 < argc ? argv + i + 1 : NULL;
			break;
		}
		if (!value)
			refuse(word);
		size_t n = (size_t)(value++ - word);
#define KEY(name) (n == sizeof name - 1 && memcmp(word, name, n) == 0)
		if (KEY("id") || KEY("exec"))
			continue; /* for those who read process lists */
		else if (KEY("plan"))
			o.plan = descriptor(word, value);
		else if (KEY("status"))
			o.status = descriptor(word, value);
		else if (KEY("primary"))
			o.primary = descriptor(word, value);
		else if (KEY("listen"))
			o.listener = descriptor(word, value);
		else if (KEY("teardown"))
			o.teardown = descriptor(word, value);
		else if (KEY("lock"))
			o.lock = descriptor(word, value);
		else if (KEY("stdin"))
			o.input = (int)number(word, value, 2);
		else if (KEY("tty"))
			o.tty = number(word, value, 1);
		else if (KEY("sync"))
			o.sync = value;
		else if (KEY("stays"))
			o.stays = number(word, value, 1);
		else if (KEY("rows"))
			o.rows = (unsigned short)number(word, value, USHRT_MAX);
		else if (KEY("cols"))
			o.columns = (unsigned short)number(word, value, USHRT_MAX);
		else if (KEY("log"))
			o.log = value;
		else if (KEY("driver"))
			o.driver = driver(word, value);
		else if (KEY("max-size"))
			o.max_size = number(word, value, UINT64_MAX);
		else if (KEY("max-file"))
			o.max_files = (int)number(word, value, 1000);
		else if (KEY("pidfile"))
			o.pidfile = value;
		else if (KEY("exitfile"))
			o.exitfile = value;
		else if (KEY("oom"))
			o.oom = value;
		else if (KEY("userns"))
			o.userns = number(word, value, 1);
		else if (KEY("hold"))
			o.hold = value;
		else if (KEY("relay"))
			o.relay = value;
		else
			refuse(word);
#undef KEY
	}
	if (o.plan < 0)
		refuse("plan=");
	if (!relay_prepare(o.hold ? o.hold : "", o.relay))
		refuse("hold= or relay=");
	return o;
}
