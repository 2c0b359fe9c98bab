/* plan.h: a plan in memory. docs/plan.md says what the operations mean. */
#ifndef KNARR_PLAN_H
#define KNARR_PLAN_H

#include <stdbool.h>
#include <stddef.h>

struct op;

struct step {
	const struct op *op;
	const char *origin;
	bool optional; /* its failure is a warning */
	int argc;
	char **argv; /* ends with NULL */
};

struct plan {
	struct step *steps;
	int count;
};

/* What is wrong with a plan: the step it is about (-1: the plan itself), an errno, a sentence. */
struct plan_error {
	int step, error;
	char text[160];
};

/* Reads and checks a whole plan before any of it is executed. The text is copied, so nobody can change it
 * afterwards; the memory is never given back (a process reads one plan). */
bool plan_read(int fd, struct plan *plan, struct plan_error *error);

/* The index of the first step of that name at or after `from`; -1 when there is none. */
int plan_find(const struct plan *plan, int from, const char *name);

#endif
