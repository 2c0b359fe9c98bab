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
    from collections.abc import Callable

    from knarr.oci.spec import Process, Spec
    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.facts import HostFacts
    from knarr.runtime.state_dir import Container, StateDir


class ExecRequest(Record):
    """Descriptors: -1 is none. `cgroup` is a path below the container's."""

    console_fd: int = -1
    console_bare: bool = False  # its line feeds are made lines where they are shown
    pid_file: str = ""
    pidfd_socket: str = ""
    preserve_fds: int = 0
    ignore_paused: bool = False
    cgroup: str = ""


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
    place = entrance(container, request.cgroup)
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


def entrance(container: Container, below: str) -> CgroupPlacement:
    """The container's cgroup, or one `below` it."""
    place = container.place
    if below:
        return _sub_cgroup(place, below)
    if not place.v2:
        return place
    return place._replace(v2=cgroups.entrance(place.v2, f"/proc/{container.pid}"))


def _sub_cgroup(place: CgroupPlacement, below: str) -> CgroupPlacement:
    """`PATH`, or of v1 `controller,controller:PATH`: then the other hierarchies' cgroup is the container's own."""
    words, colon, path = below.rpartition(":")
    names = frozenset(words.split(","))
    if ".." in path.split("/"):
        raise UsageError(f"bad sub cgroup path: {below!r} is not below the container's")
    tail = f"/{path.strip('/')}".rstrip("/")
    chosen = [v for v in place.v1 if not colon or names.intersection(v.controllers)]
    if colon and not chosen:
        raise UsageError(f"bad sub cgroup path: {below!r}: the container has no cgroup of {words}")
    v1 = tuple(v._replace(directory=v.directory + tail) if v in chosen else v for v in place.v1)
    return place._replace(v1=v1, v2=place.v2 + tail if place.v2 and not colon else place.v2)
