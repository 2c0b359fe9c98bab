"""Run a command in a running container: the container's own set-up once more, in its namespaces and cgroups."""

from __future__ import annotations

import os

from knarr.engine import monitor, placing, security
from knarr.engine.container_dir import ContainerConfig, ContainerDir
from knarr.engine.process import capabilities, environment, user_of
from knarr.engine.state import PAUSED, read_state
from knarr.errors import Conflict, UsageError
from knarr.host import launch
from knarr.host.users import identity_in
from knarr.oci import json
from knarr.oci.document import decode
from knarr.oci.spec import Process, Spec
from knarr.plan.cgroup import CgroupPlacement
from knarr.plan.exec import ENTERED, ExecSetting, ExecTarget, exec_plan
from knarr.plan.idmap import denies_setgroups
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from knarr.engine.engine import Engine
    from knarr.host.users import Identity
    from knarr.plan.facts import HostFacts

    R = TypeVar("R", bound=tuple[object, ...])


class ExecRequest(Record):
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    tty: bool = False
    stdin: bool = False
    privileged: bool = False
    detach: bool = False
    detach_keys: str = ""  # bytes in hexadecimal


def execute(
    engine: Engine,
    directory: ContainerDir,
    request: ExecRequest,
    *,
    warn: Callable[[str], None] = lambda text: None,
) -> int:
    """Run the command in front (or start it, with `detach`); its exit code. Raises `Conflict` when nothing runs.

    A command without a terminal whose output is no terminal either gets our descriptors themselves: no byte of it
    passes through another process. At a terminal it gets pipes, so that it cannot put words into our terminal's input.
    """
    state = read_state(directory)
    if state.status == PAUSED:
        raise Conflict(
            f"container {directory.id[:12]} is paused",
            hint=f"let it go on with `knarr unpause {directory.id[:12]}`",
        )
    if not state.running:
        raise Conflict(
            f"container {directory.id[:12]} is not running",
            hint=f"start it with `knarr start {directory.id[:12]}`",
        )
    config = directory.config()
    spec = _run_document(directory, "config.json", Spec)
    root = f"/proc/{state.pid}/root"
    if config.options.runtime:
        root += (
            f"{directory.root}/rootfs"  # the process is the runtime's, which sees the container's root there
        )
    account = identity_in((root,), request.user or config.options.user or config.image_config.user)
    process = _process(config, request, account, spec, engine.facts)
    place = _run_document(directory, "cgroup.json", CgroupPlacement)
    if not config.options.runtime:
        place = placing.entrance(place, f"/proc/{state.pid}")
    target = ExecTarget(state.pid, state.pid_start, _entered(state.pid), place)
    relayed = request.tty or request.detach or any(os.isatty(fd) for fd in (0, 1, 2))
    far = placing.far_from(place, engine.facts.cgroup_v2)
    setting = ExecSetting(
        console_fd=monitor.CONSOLE_FD if request.tty else -1,
        pdeathsig=not request.detach,
        enter_scope=far and relayed,
        groups_denied=denies_setgroups(spec.linux, engine.facts) if spec.linux.gid_mappings else False,
    )
    if config.options.runtime:
        from knarr.engine import other_runtime

        plan = other_runtime.exec_plan(directory, state, process, place, setting)
    else:
        plan = exec_plan(spec, process, target, engine.facts, setting)
    for text in plan.warnings:
        warn(text)
    if not relayed:
        if not request.stdin:
            os.dup2(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), 0)
        if far:
            placing.come_near(place, os.getpid(), rootless=engine.facts.rootless)  # we become the setter
        return launch.foreground(plan.steps)
    words = [
        f"id={directory.id}",
        "exec=1",
        "driver=none",
        f"stdin={2 if request.stdin else 0}",
        f"tty={int(request.tty)}",
    ]
    if request.tty and os.isatty(0):
        size = os.get_terminal_size(0)
        words += [f"rows={size.lines}", f"cols={size.columns}"]
    started = monitor.start(
        monitor.MonitorRequest(plan.steps, tuple(words), primary=not request.detach),
        on_pause=lambda label, pid: placing.come_near(
            place, *placing.with_parent(pid), rootless=engine.facts.rootless
        ),
        on_warning=warn,
    )
    if request.detach:
        return 0
    front = monitor.front_words(
        tty=request.tty and os.isatty(0),
        stdin=request.stdin,
        keys=request.detach_keys,
        sig_proxy=not request.tty,
    )
    monitor.become_front(started.connection, front)
    return 125


def _entered(pid: int) -> tuple[str, ...]:
    """The kinds of namespace that are not ours already: joining one's own user namespace is an error."""
    try:
        return tuple(
            k for k in ENTERED if os.readlink(f"/proc/{pid}/ns/{k}") != os.readlink(f"/proc/self/ns/{k}")
        )
    except FileNotFoundError:
        raise Conflict("the container is not running any more") from None


def _run_document(directory: ContainerDir, name: str, kind: type[R]) -> R:
    """What `start` wrote down for us."""
    try:
        with open(f"{directory.run}/{name}", "rb") as file:
            return decode(kind, json.loads(file.read()))
    except FileNotFoundError:
        raise Conflict(f"container {directory.id[:12]} is ending") from None


def _process(
    config: ContainerConfig, request: ExecRequest, account: Identity, spec: Spec, facts: HostFacts
) -> Process:
    asked = config.options.security
    own = spec.process or Process("/")
    cwd = request.workdir or own.cwd
    if not cwd.startswith("/"):
        raise UsageError(f"the working directory {cwd!r} is invalid, it needs to be an absolute path")
    userns = any(n.type == "user" for n in spec.linux.namespaces)
    if request.privileged:
        asked = asked._replace(privileged=True, cap_drop=())
    return own._replace(
        cwd=cwd,
        args=request.args,
        terminal=request.tty,
        env=environment(config, spec.hostname or config.id[:12], account.home, request.env),
        user=user_of(account),
        capabilities=capabilities(asked, account.uid, facts, userns=userns),
        no_new_privileges=security.no_new_privileges(asked),
        console_size=None,
    )
