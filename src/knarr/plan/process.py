"""The process inside: limits, identity, capabilities, environment (config.md, Process)."""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.capabilities import SYS_RESOURCE, cap_masks
from knarr.plan.step import Step, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.oci.spec import Linux, Process, Seccomp
    from knarr.plan.facts import HostFacts

RLIMITS = frozenset(
    ("AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC",
     "RSS", "RTPRIO", "RTTIME", "SIGPENDING", "STACK")
)  # fmt: skip
INFINITY = (1 << 64) - 1
SPEC_ALLOW = 4  # SECCOMP_FILTER_FLAG_SPEC_ALLOW: a profile without flags leaves speculation as it is
_ALL_CPUS = "0-1023"  # as many as a mask of the executor has
# What becomes of supplementary groups.
GROUPS_SET, GROUPS_DENIED, GROUPS_KEPT = "set", "denied", "kept"


def rlimit_steps(process: Process, facts: HostFacts, in_userns: bool, warnings: list[str]) -> Iterator[Step]:
    """Without CAP_SYS_RESOURCE in the initial user namespace a hard limit cannot be raised: what is above
    the present one is cut to it and said so; a limit that still fails is only a warning."""
    may_raise = facts.has_cap(SYS_RESOURCE) and facts.initial_userns and not in_userns
    seen: set[str] = set()
    for i, limit in enumerate(process.rlimits):
        origin = f"process.rlimits[{i}]"
        name = limit.type.removeprefix("RLIMIT_")
        if name not in RLIMITS or name == limit.type:
            raise UsageError(f"{origin}.type: unknown limit {quoted(limit.type)}")
        if name in seen:
            raise UsageError(f"{origin}.type: a second {limit.type}")
        seen.add(name)
        hard, soft = _rlimit(limit.hard, f"{origin}.hard"), _rlimit(limit.soft, f"{origin}.soft")
        if soft > hard:
            raise UsageError(f"{origin}.soft: {limit.soft} is above the hard limit {limit.hard}")
        if name == "NOFILE" and not may_raise and hard > facts.nofile_hard:
            warnings.append(
                f"{origin}: {limit.type} {limit.hard} lowered to {facts.nofile_hard}: raising it needs CAP_SYS_RESOURCE"
            )
            hard = facts.nofile_hard
            soft = min(soft, hard)
        shown = [("-1" if v == INFINITY else str(v)) for v in (soft, hard)]
        yield Step("rlimit", (name.lower(), *shown), origin, optional=not may_raise)


def _rlimit(value: int, origin: str) -> int:
    if value == -1:
        return INFINITY
    if not 0 <= value <= INFINITY:
        raise UsageError(f"{origin}: {value} is not a limit")
    return value


def oom_step(process: Process, facts: HostFacts, *, own: bool = False) -> Iterator[Step]:
    """Written from outside, with the caller's rights: inside a user namespace nobody may lower it.
    `own`: the setter's, which its child inherits."""
    score = process.oom_score_adj
    if score is None:
        return
    if not -1000 <= score <= 1000:
        raise UsageError(f"process.oomScoreAdj: {score} is not between -1000 and 1000")
    optional = not (facts.has_cap(SYS_RESOURCE) and facts.initial_userns)
    op, name = ("write", "/proc/self/oom_score_adj") if own else ("write-child", "oom_score_adj")
    yield Step(op, (name, str(score)), "process.oomScoreAdj", optional)


def reset_affinity(origin: str) -> Step:
    """Every CPU that the cpuset has: the kernel leaves out the others."""
    return Step("affinity", (_ALL_CPUS,), origin)


def scheduling_steps(process: Process, linux: Linux) -> Iterator[Step]:
    if process.scheduler or process.io_priority or linux.memory_policy or linux.personality:
        from knarr.plan import scheduling  # few containers ask for any of it

        yield from scheduling.scheduling_steps(process, linux)


def identity_steps(
    process: Process,
    filter_step: Step | None,
    available: int,
    groups: str,
    warnings: list[str],
) -> Iterator[Step]:
    """From root of the container to the process asked for; each step takes away a right the one before needed."""
    bounding, effective, permitted, inheritable, ambient, lost = cap_masks(process.capabilities, available)
    warnings += lost
    if filter_step and not process.no_new_privileges:
        # Loading a filter without no_new_privs needs CAP_SYS_ADMIN: it must come before the capabilities go.
        yield filter_step
    # Needs CAP_SETPCAP.
    yield Step("bounding", (f"{bounding:#x}",), "process.capabilities.bounding")
    # Needs CAP_SETUID and CAP_SETGID; the executor keeps the permitted set across it.
    yield _user_step(process, groups, warnings)
    masks = tuple(f"{mask:#x}" for mask in (effective, permitted, inheritable, ambient))
    yield Step("caps", masks, "process.capabilities")
    if process.no_new_privileges:
        # After the identity change, and before the filter, which it lets an unprivileged process load.
        yield Step("no-new-privs", (), "process.noNewPrivileges")
        if filter_step:
            yield filter_step


def groups_policy(*, denied: bool, kept: bool) -> str:
    """`denied`: the user namespace has a single id. `kept`: the caller's go with the process, mapped or not."""
    return GROUPS_KEPT if kept else GROUPS_DENIED if denied else GROUPS_SET


def _user_step(process: Process, policy: str, warnings: list[str]) -> Step:
    user = process.user
    for name, number in (
        ("uid", user.uid),
        ("gid", user.gid),
        *(("additionalGids", g) for g in user.additional_gids),
    ):
        if not 0 <= number < 0xFFFFFFFF:
            raise UsageError(f"process.user.{name}: {number} is not an id")
    umask = 0o022 if user.umask is None else user.umask
    if not 0 <= umask <= 0o777:
        raise UsageError(f"process.user.umask: {umask:o} is not a file mode mask")
    groups: tuple[str, ...] = tuple(map(str, user.additional_gids))
    if policy == GROUPS_KEPT:
        groups = ("keep",)
    elif policy == GROUPS_DENIED:
        if any(g != user.gid for g in user.additional_gids):
            warnings.append(
                "process.user.additionalGids: left out: with a single mapped id groups cannot be set"
            )
        groups = ()
    return Step("user", (str(user.uid), str(user.gid), f"{umask:04o}", *groups), "process.user")


def available_caps(facts: HostFacts, in_userns: bool) -> int:
    """A process that has just entered a user namespace has every capability in it."""
    return (1 << facts.last_cap + 1) - 1 if in_userns else facts.capabilities


def seccomp_step(
    seccomp: Seccomp, arch: str, state: tuple[str, ...] = (), *, known_only: bool = False
) -> Step:
    """`state` is what an agent is told, see `knarr.plan.state`; without one, nobody listens. `known_only`: a call that
    no machine has is an error."""
    from knarr.plan.seccomp_default import usual_filter  # not for --privileged

    usual = usual_filter(seccomp, arch)
    if usual:
        return Step("seccomp", (f"{SPEC_ALLOW:#x}", usual), "linux.seccomp")
    from knarr.plan.seccomp import check_names, compile_filter, filter_flags

    if known_only:
        check_names(seccomp)
    args = (f"{filter_flags(seccomp):#x}", compile_filter(seccomp, arch).hex())
    return Step("seccomp", (*args, *state), "linux.seccomp")


def program_steps(process: Process) -> Iterator[Step]:
    if not process.args:
        raise UsageError("process.args: is empty: no command to run")
    yield Step("env", process.env, "process.env")
    yield Step("exec", process.args, "process.args")
