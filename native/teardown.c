/* teardown.c: the tear-down plan. */
#include "teardown.h"

#include <grp.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "executor.h"
#include "init.h"
#include "kernel.h"
#include "workload.h"

static bool on_host(int step)
{
	return strncmp(ex.plan.steps[step].origin, "host", 4) == 0;
}

/* ---- a process for a few steps -----------------------------------------------------------------------------------
 * Root of the container's user namespace, which the monitor held open; everything else is the host's. Its files can be
 * removed only by somebody to whom their owners are mapped. The tear-down process waits for it. */
static int run_inside(int user_namespace, int first, int end)
{
	pid_t pid = fork();
	if (pid == 0) {
		if (setns(user_namespace, CLONE_NEWUSER) < 0)
			_exit(EXIT_FAILED);
		/* Where it is not permitted, these are the ids already. */
		int ignored = setresgid(0, 0, 0) | setgroups(0, NULL) | setresuid(0, 0, 0);
		(void)ignored;
		_exit(executor_run_all(first, end) ? 1 : 0);
	}
	int status = 1;
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

/* ---- the tear-down process --------------------------------------------------------------------------------------
 * A copy of the monitor with its rights. The monitor waits for it, but a step that hangs or dies here does not harm it. */
pid_t teardown_start(int plan, int user_namespace)
{
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	workload_default_signals();
	struct plan_error error;
	ex.quiet = true;
	executor_start(-1);
	if (!plan_read(plan, &ex.plan, &error))
		_exit(EXIT_FAILED);
	int failed = 0;
	for (int first = 0, end; first < ex.plan.count; first = end) {
		bool host = user_namespace < 0 || on_host(first);
		end = first + 1;
		while (end < ex.plan.count && (user_namespace < 0 || on_host(end) == host))
			end++;
		failed |= host ? executor_run_all(first, end) : run_inside(user_namespace, first, end);
	}
	_exit(failed ? 1 : 0);
}
