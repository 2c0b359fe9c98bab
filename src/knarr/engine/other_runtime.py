"""Starting and entering containers that another runtime makes. `knarr.plan.other_runtime` says how they are housed.

RUN/containers/ID/
  runtime/bundle/config.json   what the runtime is asked for
  runtime/state/               its own state (`--root`)
  runtime/log                  its errors (`--log`), and runtime/pid, which it writes when the container runs
  runtime.json                 which runtime it is, for exec
"""

from __future__ import annotations

import os
import time

from knarr.engine import monitor
from knarr.engine.container_dir import write_file
from knarr.engine.runtimes import Runtime, find
from knarr.errors import CommandNotExecutable, CommandNotFound, DataError, HostError
from knarr.host import launch, native
from knarr.oci import json
from knarr.oci.document import decode, encode
from knarr.oci.spec import ConsoleSize
from knarr.plan.cgroup import CgroupPlacement
from knarr.plan.exec import ExecSetting
from knarr.plan.other_runtime import Room, asked_of_runtime, exec_room_plan, room_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.container_dir import ContainerConfig, ContainerDir
    from knarr.engine.engine import Engine
    from knarr.engine.monitor import Started
    from knarr.engine.state import State
    from knarr.oci.spec import Process, Spec
    from knarr.plan.setup import Plan, Setting

_ENTERED = ("user", "mnt", "pid", "net", "ipc", "cgroup")
_LOOKS_EVERY_S = 0.002
_LARGEST_LOG = 64 << 10
_PROCESS = "exec-"
_READ_WITHIN_S = 60.0


def compile_plan(
    engine: Engine, directory: ContainerDir, config: ContainerConfig, spec: Spec, where: Setting
) -> Plan:
    """`where` is what knarr's own runtime would be given. Raises `UsageError`, `HostError`."""
    assert where.rootfs is not None
    assert where.cgroup is not None
    runtime = find(engine.paths, config.options.runtime)
    own = f"{directory.run}/runtime"
    argv = (*_words(runtime, directory), "run", "--bundle", f"{own}/bundle", "--pid-file", f"{own}/pid")
    room = Room(
        where.rootfs,
        where.cgroup,
        (*argv, directory.id),
        where.seeds,
        where.network_host_steps,
        where.network_child_steps,
        where.pauses,
        where.console_fd,
    )
    return room_plan(spec, engine.facts, room)


def write_down(
    engine: Engine, directory: ContainerDir, config: ContainerConfig, spec: Spec, place: CgroupPlacement
) -> None:
    """The bundle, and an empty log for `await_container` to open."""
    own = f"{directory.run}/runtime"
    for path in (own, f"{own}/bundle", f"{own}/state"):
        os.mkdir(path, 0o700)
    if spec.process and spec.process.terminal and os.isatty(0):
        # Some runtimes take it from the terminal they are at only when it changes, some never.
        size = os.get_terminal_size(0)
        spec = spec._replace(
            process=spec.process._replace(console_size=ConsoleSize(size.lines, size.columns))
        )
    document = encode(asked_of_runtime(spec, place))
    for rule in document["linux"].get("resources", {}).get("devices", ()):
        # What the specification lets be left out, and runc and crun want to see.
        rule.update({"type": rule.get("type", "a"), "access": rule.get("access", "rwm")})
    write_file(f"{own}/bundle/config.json", json.dumps(document).encode())
    write_file(f"{own}/log", b"")
    runtime = find(engine.paths, config.options.runtime)
    write_file(f"{directory.run}/runtime.json", json.dumps(encode(runtime)).encode())


def _words(runtime: Runtime, directory: ContainerDir) -> tuple[str, ...]:
    own = f"{directory.run}/runtime"
    return (
        runtime.path,
        *runtime.args,
        "--root",
        f"{own}/state",
        "--log",
        f"{own}/log",
        "--log-format",
        "json",
    )


class Watch:
    """Opened before the start, since a container that ends at once takes its run directory along."""

    def __init__(self, directory: ContainerDir) -> None:
        self._own = f"{directory.run}/runtime"
        self._log = os.open(f"{self._own}/log", os.O_RDONLY | os.O_CLOEXEC)

    def until_it_runs(self, started: Started, config: ContainerConfig) -> None:
        """Return when the runtime says that the container runs, or it has ended without complaint.

        Raises what the runtime complains of, when everything is torn down.
        """
        try:
            if self._runs(started.pid):
                return
            complaint = last_error(os.pread(self._log, _LARGEST_LOG, 0))
        finally:
            os.close(self._log)
        if complaint:
            if started.connection >= 0:
                os.close(started.connection)
            monitor.reap(started.monitor_pid)
            raise _failure(complaint, config)

    def _runs(self, pid: int) -> bool:
        """Has the runtime said so; else it has ended."""
        pidfd = native.open_process(pid, native.start_time(pid))
        ended = pidfd is None
        try:
            while not os.path.exists(f"{self._own}/pid"):
                if ended or pidfd is None:
                    return False
                ended = native.wait_process(pidfd, _LOOKS_EVERY_S)
            return True
        finally:
            if pidfd is not None:
                os.close(pidfd)


def last_error(log: bytes) -> str:
    """The last message of level error in a log of JSON lines."""
    found = ""
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except DataError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal"):
            found = str(entry.get("msg", ""))
    return found


def _failure(complaint: str, config: ContainerConfig) -> HostError | CommandNotFound | CommandNotExecutable:
    """docker's exit codes, by the words that runtimes have in common."""
    from knarr.host.phrases import printable

    text = f"{config.options.runtime}: {printable(complaint)}"
    lower = complaint.lower()
    if ("executable file" in lower and "not found" in lower) or "no such file or directory" in lower:
        return CommandNotFound(text)
    if (
        "permission denied" in lower
        or "open executable" in lower
        or "is a directory" in lower
        or "exec format error" in lower
    ):
        return CommandNotExecutable(text)
    return HostError(text)


def exec_plan(
    directory: ContainerDir, state: State, process: Process, place: CgroupPlacement, setting: ExecSetting
) -> Plan:
    """The steps of `RUNTIME exec`. What is executed is in a file of the run directory, which the next exec removes."""
    own = f"{directory.run}/runtime"
    _forget_processes(own)
    path = f"{own}/{_PROCESS}{os.urandom(6).hex()}"
    write_file(path, json.dumps(encode(process)).encode(), mode=0o600)
    argv = (*_words(_own_runtime(directory), directory), "exec", "--process", path, directory.id)
    return exec_room_plan(state.pid, state.pid_start, _kinds(state.pid), place, argv, setting)


def _forget_processes(own: str) -> None:
    """A runtime has read its file long before it is a minute old."""
    for name in os.listdir(own):
        try:
            if name.startswith(_PROCESS) and os.stat(f"{own}/{name}").st_mtime < time.time() - _READ_WITHIN_S:
                os.unlink(f"{own}/{name}")
        except FileNotFoundError:
            continue


def send_signal(directory: ContainerDir, state: State, number: int) -> None:
    """`RUNTIME kill`: not every runtime passes on what is sent to its `run`. Raises `HostError`.

    Outside of the container's cgroup, which may be frozen before it is done.
    """
    argv = (*_words(_own_runtime(directory), directory), "kill", directory.id, str(number))
    setting = ExecSetting(pdeathsig=True)
    plan = exec_room_plan(state.pid, state.pid_start, _kinds(state.pid), CgroupPlacement(), argv, setting)
    if launch.foreground(plan.steps) and native.start_time(state.pid) == state.pid_start:
        raise HostError(f"container {directory.id[:12]}: its runtime could not send it signal {number}")


def _own_runtime(directory: ContainerDir) -> Runtime:
    with open(f"{directory.run}/runtime.json", "rb") as file:
        return decode(Runtime, json.loads(file.read()))


def _kinds(pid: int) -> tuple[str, ...]:
    return tuple(
        k for k in _ENTERED if os.readlink(f"/proc/{pid}/ns/{k}") != os.readlink(f"/proc/self/ns/{k}")
    )
