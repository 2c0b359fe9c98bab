"""What a container is doing now: read from the kernel, never believed from a file alone."""

from __future__ import annotations

from knarr.engine.container_dir import ContainerDir
from knarr.record import Record

CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
EXITED = "exited"
STARTING = "starting"


class State(Record):
    """`pid` is 0 unless running. Times are RFC 3339 text, "" when it did not happen."""

    status: str
    pid: int = 0
    pid_start: int = 0
    monitor_pid: int = 0
    monitor_start: int = 0
    started_at: str = ""
    finished_at: str = ""
    exit_code: int = 0
    oom_killed: bool = False

    @property
    def running(self) -> bool:
        return self.status in (RUNNING, PAUSED)


def read_state(directory: ContainerDir) -> State:
    """The state of one container; a container whose monitor died counts as exited."""
    ended = directory.exit_record()
    if directory.alive():
        now = directory.pid_record()
        # After the exit record is written the monitor only tidies up: the container has ended.
        # Compared by the run it tells of, not by time: clocks are set back.
        if "started" in now and ended.get("started") != now["started"]:
            return State(
                PAUSED if _frozen(directory) else RUNNING,
                pid=_number(now, "pid"),
                pid_start=_number(now, "start"),
                monitor_pid=_number(now, "monitor"),
                monitor_start=_number(now, "monitor_start"),
                started_at=now["started"],
            )
        if not ended or "started" not in now:
            return State(STARTING)
    if not ended:
        return State(CREATED)
    return State(
        EXITED,
        started_at=ended.get("started", ""),
        finished_at=ended.get("finished", ""),
        exit_code=_number(ended, "code", 255),
        oom_killed=ended.get("oom") == "1",
    )


def _number(record: dict[str, str], key: str, otherwise: int = 0) -> int:
    """A record may be damaged; what is no number is nobody's pid."""
    text = record.get(key, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else otherwise


def _frozen(directory: ContainerDir) -> bool:
    freezer = directory.run_record().freezer
    if not freezer:
        return False
    from knarr.host.cgroups import frozen

    return frozen(freezer)
