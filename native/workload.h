/* workload.h: the last steps before this process becomes the workload. */
#ifndef KNARR_WORKLOAD_H
#define KNARR_WORKLOAD_H

#include "plan.h"

/* `pdeathsig` again: the kernel forgets it with every change of identity (prctl(2)). */
void workload_arm_parent_signal(void);

/* The seccomp step to load right before exec. */
void workload_before_exec(int step);
void workload_load_filter(void);
void load_filter_of(const struct step *step);

/* Every descriptor from `first` on closes at exec; our own do in any case. */
void workload_close_at_exec(unsigned first);

/* No signal ignored, none blocked: exec would hand that on. */
void workload_default_signals(void);

#endif
