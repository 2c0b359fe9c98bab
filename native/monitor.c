/* monitor.c: one process per container, from its start to the end of its tear-down.
 *
 *     starting    S sets the container up; its reports go on to whoever started us
 *     running     output to the log and the clients, input to the container, signals
 *     draining    C is dead: what it has written is still being read
 *     undoing     the exit is recorded and announced; the tear-down plan runs in a process of its own
 *
 * A failed start goes from starting to undoing. */
#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clients.h"
#include "init.h"
#include "kernel.h"
#include "monitor_options.h"
#include "packet.h"
#include "pass_fd.h"
#include "records.h"
#include "relay.h"
#include "streams.h"
#include "teardown.h"
#include "watch.h"
#include "workload.h"

extern char **environ;

enum { DRAIN_MS = 100, SOCKET_OF_C = 3 };

static struct monitor_options o;
static enum { STARTING, RUNNING, DRAINING, UNDOING } phase;

static int proc = -1, signals = -1;
static int reports = -1;  /* S's and C's status connection */
static int terminal = -1; /* where C sends its terminal's master */
static int user_namespace = -1;
static pid_t setter, child, undoer; /* S, C, the tear-down; 0: not there, or ended */
static int child_pidfd = -1;
static bool failed;       /* the start */
static int setter_status, child_status;
static bool child_seen;
static struct timespec started, ended, quiet_since;
static unsigned long long oom_before;

/* ---- S, before it is itself --------------------------------------------------------------------------------------
 * A copy of the monitor that puts the container's descriptors in place and becomes `init` in a sealed copy of the
 * program. It dies with the monitor. */
_Noreturn static void be_setter(pid_t self, int status, int terminal_end)
{
	int from[4] = { streams_container_end(0), streams_container_end(1), streams_container_end(2), terminal_end };
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != self) /* it died before that */
		_exit(EXIT_FAILED);
	/* Out of the way first, so that no target is a source. */
	int plan = fcntl(o.plan, F_DUPFD, 16), reporting = fcntl(status, F_DUPFD, 16);
	for (int i = 0; i < 4; i++)
		if (from[i] >= 0)
			from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 16);
	for (int i = 0; i < 4; i++)
		if (from[i] >= 0 && dup2(from[i], i) < 0)
			_exit(EXIT_FAILED);
	workload_default_signals();
	init_become(plan, reporting, environ);
}

static bool start(void)
{
	int status[2], console[2] = { -1, -1 };
	if (!streams_start(o.tty, (enum streams_input)o.input) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, status) < 0 ||
	    (o.tty && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, console) < 0))
		return false;
	reports = status[0];
	terminal = console[0];
	pid_t self = getpid();
	setter = fork();
	if (setter == 0)
		be_setter(self, status[1], console[1]);
	close(status[1]);
	if (console[1] >= 0)
		close(console[1]);
	streams_close_container_ends();
	close(o.plan);
	return setter > 0;
}

static void kill_container(void)
{
	if (setter > 0)
		kill(setter, SIGKILL);
	if (child_pidfd >= 0)
		k_pidfd_signal(child_pidfd, SIGKILL);
}

void monitor_signal(int number)
{
	if (child_pidfd >= 0 && phase <= RUNNING && number > 0 && number < _NSIG)
		k_pidfd_signal(child_pidfd, number);
}

void monitor_primary_gone(void)
{
	if (o.stays && phase > STARTING)
		return;
	if (phase <= RUNNING)
		kill_container();
	if (phase == STARTING)
		failed = true;
}

/* ---- starting ---- */

static void tell_starter(const char *text, size_t size)
{
	if (o.status >= 0)
		(void)!send(o.status, text, size, MSG_NOSIGNAL); /* its end of file is seen elsewhere */
}

static void close_starter(void)
{
	if (o.status >= 0)
		close(o.status);
	o.status = -1;
}

static void child_exists(pid_t pid)
{
	char name[32];
	child = pid;
	child_pidfd = k_pidfd_open(pid);
	fcntl(child_pidfd, F_SETFD, FD_CLOEXEC);
	if (o.userns) {
		snprintf(name, sizeof name, "%d/ns/user", (int)pid);
		user_namespace = openat(proc, name, O_RDONLY | O_CLOEXEC);
	}
	oom_before = oom_kills(o.oom);
	if (o.pidfile)
		record_process(o.pidfile, proc, child, NULL);
}

/* S or C says something. Its text goes on as it is. */
static void take_report(void)
{
	char text[1024];
	ssize_t n = packet_receive(reports, text, sizeof text - 1, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) { /* S has ended and C has executed its workload, or is dead */
		close(reports);
		reports = -1;
		return;
	}
	text[n] = '\0';
	if (strncmp(text, "pid ", 4) == 0)
		child_exists((pid_t)atoi(text + 4));
	else if (strncmp(text, "fail ", 5) == 0)
		failed = true;
	tell_starter(text, (size_t)n);
	if (strncmp(text, "pause ", 6) == 0 && o.status < 0)
		shutdown(reports, SHUT_WR); /* nobody answers: S gives up */
}

static void take_answer(void)
{
	char text[64];
	ssize_t n = packet_receive(o.status, text, sizeof text, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		if (reports >= 0)
			(void)!send(reports, text, (size_t)n, MSG_NOSIGNAL);
		return;
	}
	close_starter();
	if (phase != STARTING)
		return;
	if (reports >= 0)
		shutdown(reports, SHUT_WR);
	if (o.primary >= 0)
		monitor_primary_gone();
}

static void make_durable(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		fsync(fd); /* what cannot be synced is no worse off than before */
		close(fd);
	}
}

/* The start is over when S has ended and nobody holds the status connection any more. */
static void settle_start(void)
{
	if (phase != STARTING || setter > 0 || (reports >= 0 && !failed))
		return;
	if (!failed && setter_status != 0) {
		const char *text = "fail -1 3 the container's set-up was killed";
		tell_starter(text, strlen(text));
		failed = true;
	}
	if (!failed) {
		clock_gettime(CLOCK_REALTIME, &started);
		if (o.pidfile)
			record_process(o.pidfile, proc, child, &started);
		relay_begin(); /* before anybody is told that the port is there */
		tell_starter("started", 7);
		close_starter();
		phase = RUNNING;
		if (o.sync)
			make_durable(o.sync); /* now that nobody waits for us */
		return;
	}
	kill_container();
	if (!child || child_seen) {
		undoer = o.teardown >= 0 ? teardown_start(o.teardown, user_namespace) : 0;
		phase = UNDOING;
	}
}

/* ---- the end ---- */

static long since_ms(const struct timespec *then)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - then->tv_sec) * 1000 + (now.tv_nsec - then->tv_nsec) / 1000000;
}

static void settle_end(bool anything_read)
{
	if (phase == RUNNING && child_seen) {
		streams_container_dead();
		clients_last_words();
		clock_gettime(CLOCK_MONOTONIC, &quiet_since);
		phase = DRAINING;
		return; /* one more round reads what there is */
	}
	if (phase != DRAINING)
		return;
	if (anything_read)
		clock_gettime(CLOCK_MONOTONIC, &quiet_since);
	/* Another process may hold the pipes (an exec that left something behind): it is not waited for. */
	if (!streams_ended() && since_ms(&quiet_since) < DRAIN_MS)
		return;
	streams_close();
	if (o.exitfile)
		record_exit(o.exitfile, child_status, oom_kills(o.oom) > oom_before, started, ended);
	clients_exit(exit_code_of(child_status));
	relay_end();
	undoer = o.teardown >= 0 ? teardown_start(o.teardown, user_namespace) : 0;
	phase = UNDOING;
}

/* Everything that died: S, C, the tear-down, and orphans of the container that came to us. Before C is known only S is
 * collected: C's report may still be on its way. */
static void reap(void)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(child || failed || reports < 0 ? -1 : setter, &status, WNOHANG)) > 0) {
		if (pid == setter) {
			setter = 0;
			setter_status = status;
		} else if (pid == child) {
			child_seen = true;
			child_status = status;
			clock_gettime(CLOCK_REALTIME, &ended);
		} else if (pid == undoer) {
			undoer = 0;
		} else {
			relay_reaped(pid);
		}
	}
}

static void take_signals(void)
{
	struct signalfd_siginfo info;
	while (read(signals, &info, sizeof info) == sizeof info) {
		/* A terminal's own signals (from the kernel) are not for us. */
		if (info.ssi_signo == SIGCHLD || info.ssi_code > 0)
			continue;
		if (phase == STARTING && !child && (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT || info.ssi_signo == SIGQUIT))
			kill_container();
		else
			monitor_signal((int)info.ssi_signo);
	}
}

static void take_terminal(void)
{
	int master = receive_fd(terminal);
	if (master >= 0) {
		streams_terminal(master);
		if (o.rows || o.columns)
			streams_resize(o.rows, o.columns);
	}
	close(terminal);
	terminal = -1;
}

static void round_of_loop(void)
{
	watch_begin();
	watch_add(signals, POLLIN);
	watch_add(reports, POLLIN);
	watch_add(o.status, POLLIN);
	watch_add(terminal, POLLIN);
	streams_watch();
	clients_watch();
	relay_watch();
	watch_wait(phase != DRAINING ? streams_patience_ms() : streams_ended() ? 0 : DRAIN_MS);

	if (watch_got(terminal))
		take_terminal();
	if (watch_got(reports))
		take_report();
	if (watch_got(o.status))
		take_answer();
	bool read = streams_serve();
	clients_serve();
	relay_serve();
	if (watch_got(signals)) {
		take_signals();
		char byte;
		/* What S said before it died comes first. */
		while (reports >= 0 && !child && phase == STARTING && packet_receive(reports, &byte, 1, MSG_PEEK) >= 0)
			take_report();
		reap();
	}
	settle_start();
	settle_end(read);
}

/* ---- after the tear-down ---- */

static void start_exit_command(void)
{
	pid_t pid = fork();
	if (pid != 0) {
		if (pid > 0)
			waitpid(pid, NULL, 0);
		return;
	}
	workload_default_signals();
	setsid();
	if (fork() == 0) {
		execvp(o.exit_command[0], o.exit_command);
		_exit(127);
	}
	_exit(0);
}

/* Others wait for the monitor's end, but a client may be slow (a pager): a copy stays until it has everything. */
static void serve_slow_clients(void)
{
	if (clients_done() || fork() != 0)
		return;
	/* Nothing but the connections: a namespace must not stay because of a pager. */
	const int given_up[] = { signals, proc, child_pidfd, user_namespace, reports, terminal, o.teardown };
	for (size_t i = 0; i < sizeof given_up / sizeof *given_up; i++)
		if (given_up[i] >= 0)
			close(given_up[i]);
	while (!clients_done()) {
		watch_begin();
		clients_watch();
		watch_wait(-1);
		clients_serve();
	}
}

static void prepare(void)
{
	static const int taken[] = { SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT, SIGWINCH };
	sigset_t set;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	/* Whoever reads what the starting command prints must not wait for us. */
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	k_close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
	setsid();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
		sigaddset(&set, taken[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* ---- the monitor -------------------------------------------------------------------------------------------------
 * The host's namespaces and the starter's privileges, in a session of its own. S and C are its children, and what is
 * orphaned in the container comes to it. Runs from the file on disk: nobody in the container can reach it. */
int monitor_main(int argc, char **argv)
{
	o = monitor_options(argc, argv);
	prepare();
	clients_start(o.listener, o.primary, o.tty, o.input != 0);
	if (o.log)
		log_open(o.log, o.driver, o.max_size, o.max_files);
	if (signals < 0 || proc < 0 || !start()) {
		char text[64];
		int n = snprintf(text, sizeof text, "fail -1 %d the monitor", errno);
		tell_starter(text, (size_t)n);
		failed = true;
		setter = 0;
		settle_start();
	}
	while (phase != UNDOING || undoer > 0)
		round_of_loop();
	/* Only now: whoever gets it makes anew, by the same names, what the tear-down removes. */
	if (o.lock >= 0)
		close(o.lock);
	bool stillborn = failed;
	close_starter();
	if (o.exit_command && !stillborn)
		start_exit_command();
	if (stillborn)
		clients_close();
	else
		serve_slow_clients();
	return stillborn ? EXIT_FAILED : 0;
}
