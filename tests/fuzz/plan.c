/* plan.c: libFuzzer on the reader of plans and on what the executor makes of arguments.
 *
 * The input is a plan in wire form. It is read as `init` reads it; then each step's arguments go through every function
 * that turns text into something else, and steps whose operation does nothing but that and a system call about itself
 * are executed. The system calls are answered here, so that nothing happens to who runs this.
 *
 * Built and run by `make fuzz`, under the address and undefined-behaviour sanitizers. */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A reader never gives its memory back: a process reads one plan. Here it reads a million. */
enum { KEPT = 8 };
static void *kept[KEPT];
static int used;

static void *counted(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	(void)at, (void)protection, (void)flags, (void)fd, (void)offset;
	void *p = used < KEPT ? calloc(1, size) : NULL;
	if (p)
		kept[used++] = p;
	return p ? p : MAP_FAILED;
}

#define mmap counted
#include "../../native/plan.c"
#undef mmap

#include "../../native/executor.h"
#include "../../native/kernel.h"
#include "../../native/namespaces.h"
#include "../../native/prepared.h"

/* ---- what the operations ask of the kernel (linked with --wrap) ---- */
#define ANSWER(name)                                                                                                     \
	int __wrap_##name(void);                                                                                         \
	int __wrap_##name(void)                                                                                          \
	{                                                                                                                \
		return 0;                                                                                                \
	}
ANSWER(setrlimit)
ANSWER(personality)
ANSWER(prctl)
ANSWER(sethostname)
ANSWER(setdomainname)
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	errno = ENOSYS;
	return number % 2 ? 0 : -1;
}

/* ---- arguments ---- */
static void parse(int argc, char **argv)
{
	(void)argc;
	unsigned char bytes[64];
	const char *word = argv[1];
	switch (argv[0][0]) {
	case 'd': decimal(word); break;
	case 'o': octal(word); break;
	case 'h': hexadecimal(word); break;
	case 't': truth(word); break;
	case 'b': from_hex(word, bytes, sizeof bytes); break;
	case 'n': namespace_kinds(word); break;
	case 'w': has_word(word, "auto"); break;
	}
}

static const struct op parser = { "parse", 2, 2, ANYWHERE, parse };
static const char *const executed[] = { "affinity", "bounding", "close-fds", "domainname", "env", "hostname",
	                                "ioprio", "mempolicy", "personality", "rlimit", "scheduler" };

static void execute(struct step *step)
{
	ex.plan = (struct plan){ step, 1 };
	executor_run_all(0, 1);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	ex.quiet = true;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct plan plan = { 0 };
	struct plan_error error;
	if (fd < 0)
		fd = memfd_create("plan", 0);
	if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		return 0;
	if (plan_read(fd, &plan, &error)) {
		for (int i = 0; i < plan.count; i++) {
			struct step *step = &plan.steps[i];
			for (int n = 0; n < step->argc; n++)
				for (const char *kind = "dohtbnw"; *kind; kind++) {
					char letter[2] = { *kind, 0 };
					char *words[] = { letter, step->argv[n], NULL };
					execute(&(struct step){ &parser, "", true, 2, words });
				}
			for (size_t n = 0; n < sizeof executed / sizeof *executed; n++)
				if (strcmp(step->op->name, executed[n]) == 0)
					execute(step);
		}
	}
	while (used)
		free(kept[--used]);
	return 0;
}
