"""exec_plan: one more process in a container that runs (`knarr exec`). It enters what is there."""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan import cgroup as cg
from knarr.plan.process import (
    available_caps,
    groups_policy,
    identity_steps,
    oom_step,
    program_steps,
    reset_affinity,
    rlimit_steps,
    scheduling_steps,
    seccomp_step,
)
from knarr.plan.setup import Plan, agent_state, label_steps
from knarr.plan.step import Step, quoted
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.oci.spec import Process, Spec
    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.facts import HostFacts

ENTERED = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time")


class ExecTarget(Record):
    """The container's first process. `starttime` is field 22 of /proc/PID/stat: a recycled pid is not entered.

    `namespaces` are the plan's kinds (`mnt`, `net`) that differ from the caller's: joining one's own user namespace
    fails. `cgroup.v2` must be a cgroup without children that were given controllers: where the container has made
    such ones (systemd inside, docker inside), the one its first process is in now.
    """

    pid: int
    starttime: int
    namespaces: tuple[str, ...]
    cgroup: CgroupPlacement | None = None


class ExecSetting(Record):
    """As in `Setting`: descriptors, -1 is none."""

    console_fd: int = -1
    console_bare: bool = False  # line feeds are left to who takes the master
    stdio: tuple[str, str, str] | None = None
    pauses: tuple[str, ...] = ()
    pdeathsig: bool = False
    wait_fd: int = -1
    container_id: str = ""  # for a seccomp agent
    bundle: str = ""
    enter_scope: bool = (
        False  # S may not go to the container's cgroup from where it is: the engine brings it near
    )
    preserve_fds: int = 0
    groups_denied: bool = False  # the container's user namespace has a single id
    keep_groups: bool = False
    reset_affinity: bool = False  # as in `Setting`, where the process names none


def exec_plan(spec: Spec, process: Process, target: ExecTarget, facts: HostFacts, where: ExecSetting) -> Plan:
    """`spec` is the running container's, for its seccomp profile; `process` what is to be started in it."""
    if not process.cwd.startswith("/"):
        raise UsageError(f"process.cwd: {quoted(process.cwd)} is not absolute")
    kinds = exec_kinds(target)
    in_userns, warnings, steps = "user" in kinds, list[str](), list[Step]()
    agent, state = agent_state(spec, where.container_id, where.bundle, target.pid)
    seccomp = spec.linux.seccomp and seccomp_step(spec.linux.seccomp, facts.arch, state)
    add = steps.extend

    # S, on the host, while it sees the cgroups' files and the host's /proc. C inherits all of it.
    if where.enter_scope:
        steps.append(Step("pause", (cg.SCOPE_PAUSE,), "exec"))
    add(_affinity_steps(process, "initial"))
    if target.cgroup:
        add(cg.join_steps(target.cgroup))
    add(agent)
    add(oom_step(process, facts, own=True))
    add(label_steps(process, facts, warnings))
    # All at once, through a pidfd: the process cannot be replaced by another in between.
    rooted = ("root",) if "mnt" not in kinds else ()  # it shares our mounts, but not our root
    steps.append(Step("join-pid", (str(target.pid), str(target.starttime), ",".join(kinds), *rooted), "exec"))
    steps.append(Step("clone", ("",), "exec"))  # a pid namespace is only entered by children
    add(Step("pause", (label,), "setting.pauses") for label in where.pauses)
    steps.append(Step("enter", (), "exec"))
    # C, inside.
    if in_userns:
        steps.append(Step("become-root", ("keep",) if where.keep_groups else (), "exec"))
    if rooted:
        steps.append(Step("chroot", (), "exec"))
    steps.append(Step("new-session", (), "process"))
    add(_console_steps(process, where))
    if where.stdio:
        steps.append(Step("stdio", where.stdio, "setting.stdio"))
    if where.reset_affinity and not process.exec_cpu_affinity:
        steps.append(reset_affinity("exec"))
    add(_affinity_steps(process, "final"))
    add(scheduling_steps(process, spec.linux))
    steps.append(Step("chdir", (process.cwd,), "process.cwd"))
    add(rlimit_steps(process, facts, in_userns, warnings))
    groups = groups_policy(denied=where.groups_denied, kept=where.keep_groups)
    add(identity_steps(process, seccomp, available_caps(facts, in_userns), groups, warnings))
    if where.pdeathsig:
        steps.append(Step("pdeathsig", ("9",), "setting.pdeathsig"))
    steps.append(Step("close-fds", (str(3 + where.preserve_fds),), "process"))
    if where.wait_fd >= 0:
        steps.append(Step("wait", (str(where.wait_fd),), "setting.wait_fd"))
    add(program_steps(process))
    return Plan(tuple(steps), tuple(warnings))


def exec_kinds(target: ExecTarget) -> tuple[str, ...]:
    unknown = [kind for kind in target.namespaces if kind not in ENTERED]
    if unknown:
        raise UsageError(f"exec: unknown namespace kind {unknown[0]!r}")
    return tuple(kind for kind in ENTERED if kind in target.namespaces)


def _affinity_steps(process: Process, field: str) -> Iterator[Step]:
    """`initial` holds for the setter before it enters the cgroup, `final` for the process in it."""
    affinity = process.exec_cpu_affinity
    if affinity and getattr(affinity, field):
        from knarr.plan.scheduling import affinity_step

        yield affinity_step(getattr(affinity, field), field)


def _console_steps(process: Process, where: ExecSetting) -> Iterator[Step]:
    if not process.terminal:
        return
    if where.console_fd < 0:
        raise UsageError("process.terminal: there is no console socket to send the terminal to")
    size = process.console_size
    rows, columns = (size.height, size.width) if size else (0, 0)
    bare = ("1",) if where.console_bare else ()
    yield Step("console", (str(where.console_fd), str(rows), str(columns), "0", *bare), "process.terminal")
