"""Ending and signalling containers: stop, kill, wait, pause."""

from __future__ import annotations

import _signal
import os

from knarr.engine.container_dir import ContainerDir
from knarr.engine.state import PAUSED, State, read_state
from knarr.errors import Conflict, DataError, HostError, NotFound, UsageError
from knarr.host import native, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.container_dir import ContainerConfig
    from knarr.engine.engine import Engine

DEFAULT_STOP_TIMEOUT_S = 10.0


def signal_container(directory: ContainerDir, number: int) -> None:
    """Send a signal to process 1 of a running container. Raises `Conflict` when it does not run."""
    state = read_state(directory)
    if not state.running:
        raise Conflict(f"container {directory.id[:12]} is not running")
    if (
        number != _signal.SIGKILL
        and state.status != PAUSED
        and os.path.exists(f"{directory.run}/runtime.json")
    ):
        from knarr.engine.other_runtime import send_signal

        send_signal(directory, state, number)
        return
    fd = native.open_process(state.pid, state.pid_start)
    if fd is None:
        return  # it ended this moment; so would it have with the signal
    try:
        native.signal_process(fd, number)
    finally:
        os.close(fd)


def kill(engine: Engine, directory: ContainerDir, number: int) -> None:
    """docker's `kill`: the signal is delivered to a frozen container as well (SIGKILL ends it there too)."""
    state = read_state(directory)
    signal_container(directory, number)
    if number == _signal.SIGKILL:
        if state.status == PAUSED:
            unpause(directory)
        await_end(engine, directory, None)


def stop(engine: Engine, directory: ContainerDir, timeout_s: float | None = None, signal: str = "") -> bool:
    """Ask a container to end, kill it after the timeout (-1: never). False when it did not run.

    Without a timeout the container's own `--stop-timeout` counts, then ten seconds. Returns when everything
    of the container is torn down.
    """
    state = read_state(directory)
    if not state.running:
        from knarr.engine.mend import mend

        mend(engine, directory)
        return False
    number, limit = _own_way(directory)
    if signal:
        number = signals.number(signal)
    if timeout_s is not None:
        limit = timeout_s
    try:
        signal_container(directory, number)
        if state.status == PAUSED:
            unpause(directory)
    except Conflict:
        pass  # it ended by itself
    if not _process_ended(state, None if limit < 0 else limit):
        try:
            signal_container(directory, _signal.SIGKILL)
        except Conflict:
            pass
    await_end(engine, directory, state)
    return True


def _own_way(directory: ContainerDir) -> tuple[int, float]:
    """The signal and the seconds a container wants. What cannot be read must not keep it running."""
    try:
        config = directory.config()
    except (DataError, NotFound):
        return int(_signal.SIGTERM), DEFAULT_STOP_TIMEOUT_S
    own = config.options.stop_timeout_s
    return _own_stop_signal(config), float(own) if own is not None else DEFAULT_STOP_TIMEOUT_S


def _own_stop_signal(config: ContainerConfig) -> int:
    """What an image says may be nonsense; then it is SIGTERM."""
    for asked in (config.options.stop_signal, config.image_config.stop_signal):
        try:
            if asked:
                return signals.number(asked)
        except UsageError:
            continue
    return int(_signal.SIGTERM)


def _process_ended(state: State, timeout_s: float | None) -> bool:
    """Wait for the container's process; True when it ended within the time."""
    return _wait(state.pid, state.pid_start, timeout_s)


def _wait(pid: int, start: int, timeout_s: float | None) -> bool:
    fd = native.open_process(pid, start)
    if fd is None:
        return True
    try:
        return native.wait_process(fd, timeout_s)
    finally:
        os.close(fd)


def await_end(engine: Engine, directory: ContainerDir, state: State | None) -> None:
    """Return when the container's monitor has ended, with its tear-down done; mend when it died on the way."""
    state = state or read_state(directory)
    if state.monitor_pid:
        _wait(state.monitor_pid, state.monitor_start, None)
    from knarr.engine.mend import mend

    try:
        mend(engine, directory)
    except NotFound:
        return  # --rm: the tear-down has removed it


def wait(engine: Engine, directory: ContainerDir) -> int:
    """Block until the container ends; its exit code. A container that does not run answers at once."""
    from knarr.engine import monitor

    state = read_state(directory)
    if state.running:
        try:
            connection = monitor.connect(f"{directory.run}/attach")
        except OSError:
            connection = -1
        if connection >= 0:
            code = _code_from(connection)
            if code is not None:
                return code
        await_end(engine, directory, state)
        state = read_state(directory)
    return state.exit_code


def _code_from(connection: int) -> int | None:
    """The exit code a monitor announces. Asks for no output, so that nothing is held back for our sake."""
    try:
        os.write(connection, b"q")
        while message := os.read(connection, 1 << 16):
            if message[:1] == b"x":
                return int(message[1:])
    except OSError:
        return None
    finally:
        os.close(connection)
    return None


def pause(directory: ContainerDir) -> None:
    """Freeze every process of a running container. Raises `Conflict`, `HostError`."""
    state = read_state(directory)
    if state.status == PAUSED:
        raise Conflict(f"container {directory.id[:12]} is already paused")
    if not state.running:
        raise Conflict(f"container {directory.id[:12]} is not running")
    _freeze(directory, True)


def unpause(directory: ContainerDir) -> None:
    """Let a frozen container go on."""
    if read_state(directory).status != PAUSED:
        raise Conflict(f"container {directory.id[:12]} is not paused")
    _freeze(directory, False)


def _freeze(directory: ContainerDir, on: bool) -> None:
    from knarr.host.cgroups import freeze, thaw

    freezer = directory.run_record().freezer
    if not freezer:
        raise HostError(
            f"container {directory.id[:12]} has no cgroup that can be frozen",
            hint="`knarr doctor` says which cgroup controllers are missing",
        )
    (freeze if on else thaw)(freezer)
