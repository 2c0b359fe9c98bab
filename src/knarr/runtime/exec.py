"""`exec`: one more process in a container, in its namespaces and cgroups, with its limits and filters."""

from __future__ import annotations

import os

from knarr.errors import Conflict, KnarrError, UsageError
from knarr.host import cgroups, native
from knarr.host.launch import launch
from knarr.plan.exec import ENTERED, ExecSetting, ExecTarget, exec_plan
from knarr.plan.idmap import denies_setgroups
from knarr.record import Record
from knarr.runtime.create import write_pid_file
from knarr.runtime.descriptors import Handed, send_pidfd
from knarr.runtime.process import completed, keeps_groups
from knarr.runtime.status import CREATED, PAUSED, RUNNING, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from knarr.oci.spec import Process, Spec
    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.facts import HostFacts
    from knarr.runtime.state_dir import Container, StateDir


class ExecRequest(Record):
    """Descriptors: -1 is none. `cgroups` are paths below the container's, `[CONTROLLER[,CONTROLLER]:]PATH`."""

    console_fd: int = -1
    console_bare: bool = False  # its line feeds are made lines where they are shown
    pid_file: str = ""
    pidfd_socket: str = ""
    preserve_fds: int = 0
    ignore_paused: bool = False
    cgroups: tuple[str, ...] = ()


def executable_in(directory: StateDir, *, ignore_paused: bool) -> Container:
    """The container, if a process can be started in it. Raises `NotFound`, `Conflict`."""
    container = directory.container()
    status = status_of(directory, container)
    if status == PAUSED and not ignore_paused:
        raise Conflict(
            f"cannot exec in a paused container: {directory.id!r}",
            hint=f"let it go on with `knarr-runtime resume {directory.id}`, or use --ignore-paused",
        )
    if container is None or status not in (CREATED, RUNNING, PAUSED):
        raise Conflict(f"cannot exec in a container that is not running: {directory.id!r} is {status}")
    return container


def execute(
    container: Container,
    spec: Spec,
    process: Process,
    request: ExecRequest,
    facts: HostFacts,
    warn: Callable[[str], None],
) -> int:
    """Start the process, a child of ours; its pid. Raises the failed step's error."""
    process = completed(process, f"/proc/{container.pid}/root")
    fds = Handed(request.preserve_fds)
    place = entrance(container, request.cgroups)
    setting = ExecSetting(
        container_id=container.id,
        bundle=container.bundle,
        console_fd=fds.give(request.console_fd),
        console_bare=request.console_bare,
        groups_denied=bool(spec.linux.gid_mappings) and denies_setgroups(spec.linux, facts),
        preserve_fds=request.preserve_fds,
        keep_groups=keeps_groups(spec.annotations),
        reset_affinity=True,
        enter_scope=container.users_systemd and _far_from(place.v2, facts),
    )
    target = ExecTarget(container.pid, container.pid_start, _entered(container), place)
    plan = exec_plan(spec, process, target, facts, setting)
    for text in plan.warnings:
        warn(text)

    def on_pause(label: str, pid: int) -> None:
        from knarr.runtime import scope  # the only pause there is

        scope.bring_in(place, pid)

    pid = launch(plan.steps, fds=fds.map, on_pause=on_pause, on_warning=warn)
    if request.pid_file or request.pidfd_socket:
        try:
            if request.pid_file:
                write_pid_file(request.pid_file, pid)
            if request.pidfd_socket:
                send_pidfd(request.pidfd_socket, pid)
        except (OSError, KnarrError):
            os.kill(pid, 9)
            native.wait_for(pid)
            raise
    return pid


def _far_from(directory: str, facts: HostFacts) -> bool:
    """May we not start a process in that cgroup of ours, from the one we are in: the kernel wants write access to
    `cgroup.procs` of the one above both (cgroups(7), delegation)."""
    v2 = facts.cgroup_v2
    if v2 is None or not directory:
        return False
    above = os.path.commonpath((directory, v2.mount + v2.own))
    return not os.access(f"{above}/cgroup.procs", os.W_OK)


def _entered(container: Container) -> tuple[str, ...]:
    """The kinds of namespace that are not ours already: joining one's own user namespace is an error."""
    pid = container.pid
    try:
        return tuple(
            k for k in ENTERED if os.readlink(f"/proc/{pid}/ns/{k}") != os.readlink(f"/proc/self/ns/{k}")
        )
    except FileNotFoundError:
        raise Conflict(f"container {container.id!r} is not running any more") from None


def entrance(container: Container, below: Sequence[str]) -> CgroupPlacement:
    """The container's cgroup, or what is `below` it: in all hierarchies, or in those of version 1 that are named.
    Raises `UsageError`."""
    place = container.place
    if place.v2 and all(":" in word for word in below):
        place = place._replace(v2=cgroups.entrance(place.v2, f"/proc/{container.pid}"))
    for word in below:
        place = _below(place, word)
    return place


def _below(place: CgroupPlacement, word: str) -> CgroupPlacement:
    names, _, path = word.rpartition(":")
    path = path.strip("/")
    if ".." in path.split("/"):
        raise UsageError(f"bad sub cgroup path: {word!r} is not below the container's")
    tail = f"/{path}" if path else ""
    wanted = frozenset(names.split(",")) if names else frozenset[str]()
    if unknown := wanted.difference(*(v.controllers for v in place.v1)):
        raise UsageError(
            f"bad sub cgroup path: {word!r}: the container has no cgroup of {', '.join(sorted(unknown))}"
        )
    v1 = tuple(
        v._replace(directory=v.directory + tail) if not wanted or wanted.intersection(v.controllers) else v
        for v in place.v1
    )
    return place._replace(v1=v1, v2=place.v2 + tail if place.v2 and not wanted else place.v2)
