"""Start a container: everything between what is written down and a process that runs.

The order is what makes a kill at any moment harmless: the lock is held first, the tear-down plan is on disk
before the first thing it would tear down exists, and the monitor has inherited both before the plan is executed.
"""

from __future__ import annotations

import os
import time

from knarr.engine import monitor, placing
from knarr.engine.container_dir import PATIENCE_S, ContainerConfig, ContainerDir, write_file
from knarr.engine.mend import mend, mend_all
from knarr.engine.spec import build_spec
from knarr.engine.state import read_state
from knarr.engine.surroundings import Prepared, surroundings
from knarr.errors import Conflict, KnarrError
from knarr.network import attach
from knarr.oci import json
from knarr.oci.document import encode
from knarr.plan import cgroup
from knarr.plan.rootfs import Rootfs
from knarr.plan.setup import Plan, Setting, container_plan
from knarr.plan.step import Step, to_wire
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.engine.engine import Engine
    from knarr.engine.other_runtime import Watch
    from knarr.oci.spec import Spec


class Foreground(Record):
    """The command that starts the container stays in front of it. `stays`: the container outlives the command."""

    terminal: bool
    sig_proxy: bool = True
    detach_keys: str = ""
    stdin: bool = True
    stays: bool = False


class Started(Record):
    """`connection` is the foreground's, -1 when detached; `front_words` are for `monitor.become_front`."""

    pid: int
    connection: int
    front_words: tuple[str, ...]


def start_existing(
    engine: Engine,
    directory: ContainerDir,
    *,
    foreground: Foreground | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Started | None:
    """Start a container that was created or has ended; `None` when it runs already. Raises `Conflict`."""
    lock = _its_turn(engine, directory)
    if lock is None:
        return None
    try:
        return start(engine, directory, directory.config(), lock, foreground=foreground, warn=warn)
    finally:
        os.close(lock)


def _its_turn(engine: Engine, directory: ContainerDir) -> int | None:
    """The lock of a container that does not run, `None` when it does. Others who stop or mend it take a moment."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        mend(engine, directory)
        try:
            return directory.acquire()
        except BlockingIOError:
            if read_state(directory).running:
                return None
            if time.monotonic() > deadline:
                raise Conflict(
                    f"container {directory.id[:12]} is being started or stopped by another command"
                ) from None
        time.sleep(0.01)


def start(
    engine: Engine,
    directory: ContainerDir,
    config: ContainerConfig,
    lock: int,
    *,
    foreground: Foreground | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Started:
    """Start a container whose lock the caller holds. Raises the failed step's error; nothing is left then."""
    os.makedirs(directory.run, 0o700, exist_ok=True)
    try:
        prepared = surroundings(engine, directory, config)
    except BaseException:
        mend(engine, directory, lock)
        raise
    try:
        spec = build_spec(config, engine.facts, prepared.around)
        place, cgroup_warnings = placing.place(
            engine.facts,
            directory.id,
            spec.linux.resources,
            parent=config.options.cgroup_parent,
            foreground=foreground is not None and not foreground.stays,
            every=bool(config.options.runtime),
        )
        plan = compile_plan(engine, directory, config, prepared, spec, place, in_front=foreground is not None)
        for text in (*prepared.warnings, *cgroup_warnings, *plan.warnings):
            warn(text)
        _write_down(engine, directory, config, prepared, spec, place)
        watch = _other_runtime(engine, directory, config, spec, place) if config.options.runtime else None
        request = _monitor_request(directory, config, prepared, plan, place, lock, foreground)
        placing.step_aside(place)
        launched = monitor.launch(request)
    except BaseException:
        attach.release(prepared.attachment)
        mend(engine, directory, lock)
        raise
    # From here on the monitor tears down what was taken, whether the container starts or not.
    for fd in prepared.attachment.hold_fds:
        os.close(fd)
    _mend_meanwhile(engine)
    started = monitor.await_start(
        launched, on_pause=_pause_handler(engine, config, prepared, place), on_warning=warn
    )
    if watch is not None:
        watch.until_it_runs(started, config)
    words: tuple[str, ...] = ()
    if foreground is not None:
        words = monitor.front_words(
            tty=config.options.tty and foreground.terminal,
            stdin=config.options.stdin and foreground.stdin,
            keys=foreground.detach_keys,
            sig_proxy=foreground.sig_proxy,
        )
    return Started(started.pid, started.connection, words)


def compile_plan(
    engine: Engine,
    directory: ContainerDir,
    config: ContainerConfig,
    prepared: Prepared,
    spec: Spec,
    place: cgroup.CgroupPlacement,
    *,
    in_front: bool,
) -> Plan:
    """The steps of this start."""
    overlay = ["userxattr"] if engine.facts.rootless else []
    if config.options.auto_remove:
        overlay.append("volatile")  # its writable layer is thrown away: syncing it would be for nobody
    rootfs = Rootfs(
        config.layers,
        prepared.around.rootfs,
        f"{directory.root}/upper",
        prepared.work,
        tuple(overlay),
    )
    where = Setting(
        rootfs=rootfs,
        seeds=prepared.seeds,
        cgroup=place,
        network_host_steps=prepared.attachment.host_steps,
        network_child_steps=prepared.attachment.child_steps,
        pauses=prepared.attachment.pauses,
        console_fd=monitor.CONSOLE_FD if config.options.tty else -1,
        init_reaper=config.options.init,
        pdeathsig=True,
    )
    if config.options.runtime:
        from knarr.engine import other_runtime

        return other_runtime.compile_plan(engine, directory, config, spec, where)
    return container_plan(spec, engine.facts, where)


def _other_runtime(
    engine: Engine,
    directory: ContainerDir,
    config: ContainerConfig,
    spec: Spec,
    place: cgroup.CgroupPlacement,
) -> Watch:
    from knarr.engine import other_runtime

    other_runtime.write_down(engine, directory, config, spec, place)
    return other_runtime.Watch(directory)


def _write_down(
    engine: Engine,
    directory: ContainerDir,
    config: ContainerConfig,
    prepared: Prepared,
    spec: Spec,
    place: cgroup.CgroupPlacement,
) -> None:
    """The tear-down plan and what the other commands want to know of this run."""
    write_file(
        f"{directory.run}/teardown", to_wire(teardown_steps(engine, directory, config, prepared, place))
    )
    seen = place
    if config.options.runtime:
        from knarr.plan.other_runtime import inner

        seen = inner(place)  # its processes, without the runtime's own
    record = prepared.record._replace(freezer=place.freezer_file.rpartition("/")[0], procs=seen.directories)
    for name, document in (("run.json", record), ("config.json", spec), ("cgroup.json", place)):
        write_file(f"{directory.run}/{name}", json.dumps(encode(document)).encode())


def teardown_steps(
    engine: Engine,
    directory: ContainerDir,
    config: ContainerConfig,
    prepared: Prepared,
    place: cgroup.CgroupPlacement,
) -> list[Step]:
    """What the monitor undoes when the container has ended. The run directory goes last: it says there is work."""
    steps = [*cgroup.teardown_steps(place), *prepared.attachment.teardown_steps]
    steps.append(Step("rmtree", (prepared.work,), "root.path", optional=True))
    if config.options.auto_remove:
        going = f"{directory.root}~"
        steps.append(Step("unlink", (f"{engine.paths.root}/names/{config.name}",), "--rm", optional=True))
        steps.append(Step("rename", (directory.root, going), "--rm", optional=True))
        steps.append(Step("rmtree", (going,), "--rm", optional=True))
        volumes = (f"{engine.paths.root}/volumes/{name}" for name in config.volumes.values())
        steps += [Step("rmtree", (path,), "--rm", optional=True) for path in volumes]
    steps.append(Step("rmtree", (directory.run,), "run directory", optional=True))
    return steps


def _monitor_request(
    directory: ContainerDir,
    config: ContainerConfig,
    prepared: Prepared,
    plan: Plan,
    place: cgroup.CgroupPlacement,
    lock: int,
    foreground: Foreground | None,
) -> monitor.MonitorRequest:
    options = config.options
    words = [
        f"id={directory.id}",
        f"pidfile={directory.run}/pid",
        f"exitfile={directory.root}/exit",
        f"log={directory.root}/log",
        f"driver={options.log.driver}",
        f"max-size={options.log.max_size_bytes}",
        f"max-file={options.log.max_files}",
        f"stdin={_stdin_mode(config, foreground)}",
        f"tty={int(options.tty)}",
    ]
    if not options.auto_remove:
        words.append(f"sync={directory.root}/config.json")
    if prepared.attachment.relayed:
        words.append(f"relay={prepared.attachment.relay_to}")
    if place.oom_file:
        words.append(f"oom={place.oom_file}")
    if prepared.around.uid_maps or prepared.around.userns_path:
        words.append("userns=1")
    if foreground is not None and foreground.stays:
        words.append("stays=1")
    if foreground is not None and foreground.terminal and options.tty:
        size = os.get_terminal_size(0)
        words += [f"rows={size.lines}", f"cols={size.columns}"]
    return monitor.MonitorRequest(
        plan.steps,
        tuple(words),
        teardown=f"{directory.run}/teardown",
        listen=monitor.listen(f"{directory.run}/attach"),
        lock=lock,
        hold=prepared.attachment.hold_fds,
        relayed=prepared.attachment.relayed,
        primary=foreground is not None,
    )


def _stdin_mode(config: ContainerConfig, foreground: Foreground | None) -> int:
    """docker's StdinOnce: the input of a container that is run in front ends with its first client's."""
    if not config.options.stdin:
        return 0
    return 2 if foreground is not None else 1


def _pause_handler(
    engine: Engine, config: ContainerConfig, prepared: Prepared, place: cgroup.CgroupPlacement
) -> Callable[[str, int], None]:
    """The engine's part of the plan's pauses: a scope holds processes from its beginning, user-mode networking needs
    the container's pid."""

    def on_pause(label: str, pid: int) -> None:
        if label == cgroup.SCOPE_PAUSE:
            placing.make_scope(place, pid, config.options.stop_timeout_s, rootless=engine.facts.rootless)
        elif label == "network" and prepared.attachment.user is not None:
            from knarr.network import rootless

            rootless.start(prepared.attachment.user, pid)

    return on_pause


def _mend_meanwhile(engine: Engine) -> None:
    """While the kernel starts the container there is time to mend what others left."""
    try:
        mend_all(engine)
    except (KnarrError, OSError):
        return  # another command's leftovers must not fail this one; `knarr ps` will say it
