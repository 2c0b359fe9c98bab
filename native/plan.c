/* plan.c: the bounds-checked reader of plans. A plan is trusted as argv is, but a damaged one must say so. */
#include "plan.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ops.h"

enum { MAX_BYTES = 16 << 20, MAX_COUNT = 1 << 20 };

struct reader {
	char *next, *end; /* end is one past the last NUL */
	struct plan_error *error;
	int step;
};

static bool refuse(struct reader *r, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

static bool refuse(struct reader *r, int error, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	vsnprintf(r->error->text, sizeof r->error->text, format, list);
	va_end(list);
	r->error->step = r->step;
	r->error->error = error;
	return false;
}

/* NULL at the end of the plan. Every field ends with a NUL because the last byte is one. */
static char *field(struct reader *r)
{
	if (r->next == r->end)
		return NULL;
	char *text = r->next;
	r->next += strlen(text) + 1;
	return text;
}

static bool count(struct reader *r, const char *text, int *value)
{
	int n = 0;
	if (!text || !*text)
		return refuse(r, EINVAL, "the plan is cut off");
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || n > MAX_COUNT)
			return refuse(r, EINVAL, "a count in the plan is not one");
		n = n * 10 + (*text - '0');
	}
	*value = n;
	return true;
}

static void *memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

static bool load(struct reader *r, int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return refuse(r, errno, "the plan's descriptor");
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > MAX_BYTES)
		return refuse(r, EINVAL, "the plan is not a file of 1 byte to 16 MiB");
	size_t size = (size_t)st.st_size, have = 0;
	if (!(r->next = memory(size)))
		return refuse(r, ENOMEM, "the plan does not fit into memory");
	while (have < size) {
		ssize_t n = pread(fd, r->next + have, size - have, (off_t)have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return refuse(r, n < 0 ? errno : EIO, "the plan cannot be read");
		have += (size_t)n;
	}
	r->end = r->next + size;
	return r->end[-1] == '\0' || refuse(r, EINVAL, "the plan is cut off");
}

static size_t count_fields(const struct reader *r)
{
	size_t n = 0;
	for (const char *p = r->next; p < r->end; p++)
		n += *p == '\0';
	return n;
}

static bool header(struct reader *r, int *steps)
{
	const char *magic = field(r), *version = field(r);
	if (!magic || strcmp(magic, "knarr-plan") != 0)
		return refuse(r, EINVAL, "this is not a plan");
	if (!version || strcmp(version, "1") != 0)
		return refuse(r, EINVAL, "the plan has version %.20s, this program understands 1", version ? version : "?");
	return count(r, field(r), steps);
}

static bool read_step(struct reader *r, struct step *step, char **argv, size_t room)
{
	const char *name = field(r), *flags = field(r);
	step->origin = field(r);
	if (!name || !flags || !step->origin || !count(r, field(r), &step->argc))
		return refuse(r, EINVAL, "the plan is cut off");
	if ((*flags && strcmp(flags, "?") != 0))
		return refuse(r, EINVAL, "unknown flags %.20s", flags);
	step->optional = *flags == '?';
	if ((size_t)step->argc >= room)
		return refuse(r, EINVAL, "the plan is cut off");
	for (int i = 0; i < step->argc; i++)
		if (!(argv[i] = field(r)))
			return refuse(r, EINVAL, "the plan is cut off");
	step->argv = argv;
	if (!(step->op = op_find(name)))
		return refuse(r, EINVAL, "unknown operation %.40s", name);
	if (step->argc < step->op->min || step->argc > step->op->max)
		return refuse(r, EINVAL, "%.40s has %d arguments", name, step->argc);
	return true;
}

/* The three parts of a plan in their order: operations of S, `clone`, of S with C waiting, `enter`, of C. */
static bool check_order(struct reader *r, const struct plan *plan)
{
	int place = plan_find(plan, 0, "clone") < 0 ? IN_S | IN_C : IN_S;
	for (r->step = 0; r->step < plan->count; r->step++) {
		const struct op *op = plan->steps[r->step].op;
		if (!(op->where & place))
			return refuse(r, EINVAL, "%s cannot stand here", op->name);
		if (strcmp(op->name, "clone") == 0) {
			if (plan_find(plan, r->step, "enter") < 0)
				return refuse(r, EINVAL, "clone has no enter");
			place = IN_S_LATE;
		} else if (strcmp(op->name, "enter") == 0) {
			place = IN_C;
		}
	}
	r->step = -1;
	return true;
}

bool plan_read(int fd, struct plan *plan, struct plan_error *error)
{
	struct reader r = { .error = error, .step = -1 };
	int steps;
	if (!load(&r, fd))
		return false;
	size_t fields = count_fields(&r);
	if (!header(&r, &steps))
		return false;
	/* A step has at least four fields: a count that cannot be true is refused before memory is taken for it. */
	if ((size_t)steps > fields / 4)
		return refuse(&r, EINVAL, "the plan is cut off");
	plan->steps = memory(((size_t)steps + 1) * sizeof *plan->steps);
	/* Four fields of each step are not arguments, so there is room for every vector's final NULL. */
	char **argv = memory((fields + 1) * sizeof *argv);
	if (!plan->steps || !argv)
		return refuse(&r, ENOMEM, "the plan does not fit into memory");
	size_t used = 0;
	for (r.step = 0; r.step < steps; r.step++) {
		if (!read_step(&r, &plan->steps[r.step], argv + used, fields - used))
			return false;
		used += (size_t)plan->steps[r.step].argc + 1;
	}
	r.step = -1;
	if (r.next != r.end)
		return refuse(&r, EINVAL, "something follows the plan's last step");
	plan->count = steps;
	return check_order(&r, plan);
}

int plan_find(const struct plan *plan, int from, const char *name)
{
	for (int i = from; i < plan->count; i++)
		if (strcmp(plan->steps[i].op->name, name) == 0)
			return i;
	return -1;
}
