/* executor.h: the state of the process that executes a plan, and how its operations fail. */
#ifndef KNARR_EXECUTOR_H
#define KNARR_EXECUTOR_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "plan.h"

/* Every system call goes through here, so none goes unchecked. What follows the call says which part of the
 * operation it was; nothing follows when the call is the operation. */
#define SYS(call, ...) do { if ((call) < 0) fail(errno, "" __VA_ARGS__); } while (0)

/* Ends the step: as a warning when it is optional, else the plan. Does not return. */
_Noreturn void fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct executor {
	struct plan plan;
	int at;           /* the step being executed */
	int status;       /* where reports go; -1: standard error */
	bool quiet;       /* reports go nowhere (tear-down) */
	bool waits;       /* `init … wait`: C is S's own child */
	bool in_child;    /* this process is C */
	bool joined_mnt;  /* programs and paths are the container's from here on */
	int proc;         /* /proc of the host, opened before anything was joined and verified */
	int root;         /* the container's root for *in* paths; -1 before `root` */
	int cgroup;       /* where C is born, -1 */
	int cgroup_namespace_of; /* pidfd of a process whose cgroup namespace C joins, -1 */
	int listener;     /* connection that takes a seccomp notify descriptor, -1 */
	int sync;         /* S and C talk over this pair */
	int parent;       /* pidfd of the process that C must not outlive, -1 */
	int parent_signal; /* what C gets when it ends; 0 none */
	pid_t child;      /* C, as S sees it */
	int child_pidfd;
	bool reap;        /* process 1 stays behind as a reaper */
	unsigned first_closed; /* descriptors from here on close at exec */
	char **env;       /* the workload's environment */
	mode_t umask;     /* and its file mode mask: the caller's, unless `user` says another */
};

extern struct executor ex;

/* Sets up `ex`: /proc is opened here. */
void executor_start(int status);

/* Executes steps `ex.at` up to `end`; a step that fails and is not optional ends the process. */
void executor_run(int end);

/* As above, but every step is executed whatever the others did (tear-down). Returns how many failed. */
int executor_run_all(int first, int end);

/* One message to whoever started us; false when it could not be sent. */
bool report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Numbers of a plan; each ends the step when the text is none. `hexadecimal` takes an optional 0x. */
long long decimal(const char *text);
unsigned octal(const char *text);
uint64_t hexadecimal(const char *text);
bool truth(const char *text);
size_t from_hex(const char *text, unsigned char *bytes, size_t room);

/* A file below /proc/PID (0: self) of the host's procfs. */
int open_proc(pid_t pid, const char *name, int flags);
void write_all_once(int fd, const char *data, size_t size);

/* This process as whoever made the procfs sees it, not as its own pid namespace does. */
pid_t pid_outside(void);

/* A document with a pid between its parts. */
void write_with_pid(int fd, char **parts, int count, pid_t pid);

#endif
