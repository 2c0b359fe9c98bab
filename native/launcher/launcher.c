/* The launcher of `knarr` and `knarr-runtime`: starts Python without what a command does not use.
 *
 * Beside it stands `knarr-py`, a Python script whose first line an installer has made to name the interpreter it
 * installed for. Executed by that line, an interpreter reads its environment, every `.pth` file and the modules of
 * `site` first, which costs a third of its start. This program reads the line itself and executes the same interpreter with
 *
 *   -I -S        none of that (the script finds knarr, and runs `site` when something else is imported)
 *   -X utf8      no locale to set up: names and texts are UTF-8, as they are everywhere else in knarr
 *
 * and the name it was installed under as the script's first argument. What `create` has written down beforehand for
 * `knarr-runtime start` and `delete` needs no interpreter at all: ahead.c. A first line of any other shape (a path that is
 * too long, or has a blank in it) is left to the kernel: the script works by itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ahead.h"

enum { FLAGS = 4, CANNOT_RUN = 126 };

static _Noreturn void fail(const char *path, const char *hint)
{
    const char *parts[] = {"knarr: ", path, ": ", strerror(errno), "\n  ", hint, "\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (write(2, parts[i], strlen(parts[i])) < 0)
            break;
    _exit(CANNOT_RUN);
}

/* The interpreter in a script's first line, NULL when there is no plain one. `line` has room for LINE_MAX bytes. */
static char *interpreter(const char *script, char *line)
{
    int fd = open(script, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    ssize_t got = read(fd, line, LINE_MAX - 1);
    close(fd);
    if (got < 3 || strncmp(line, "#!/", 3) != 0)
        return NULL;
    line[got] = 0;
    char *end = strchr(line, '\n');
    if (end == NULL)
        return NULL;
    *end = 0;
    if (strpbrk(line, " \t\r") != NULL || strncmp(strrchr(line, '/'), "/python", 7) != 0)
        return NULL;
    return line + 2;
}

int main(int argc, char **argv, char **envp)
{
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0)
        fail("/proc/self/exe", "is /proc mounted?");
    self[length] = 0;

    static const char beside[] = "knarr-py";
    char *name = strrchr(self, '/') + 1;
    if (strcmp(name, "knarr-runtime") == 0 && ahead(argc, argv) == 0)
        return 0;
    char script[PATH_MAX + sizeof beside];
    memcpy(script, self, (size_t)(name - self));
    memcpy(script + (name - self), beside, sizeof beside);

    char **words = calloc((size_t)argc + FLAGS + 4, sizeof *words);
    if (words == NULL)
        fail(self, "out of memory");
    static char isolated[] = "-I", no_site[] = "-S", option[] = "-X", utf8[] = "utf8";
    char *flags[FLAGS] = {isolated, no_site, option, utf8};
    memcpy(words + 1, flags, sizeof flags);
    words[FLAGS + 1] = script;
    words[FLAGS + 2] = name;
    for (int i = 1; i < argc; i++)
        words[FLAGS + 2 + i] = argv[i];

    /* An interpreter that is still starting answers Ctrl-C with a traceback: the signal waits until the script lets it
     * in (knarr.startup.enter). */
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, NULL);

    char line[LINE_MAX];
    words[0] = interpreter(script, line);
    if (words[0] != NULL)
        execve(words[0], words, envp); /* does not come back but with an error, which the kernel then finds too */
    execve(script, words + FLAGS + 1, envp);
    fail(script, "install knarr anew, or run it as `python -m knarr`");
}
