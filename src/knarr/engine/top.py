"""The processes of a container, as `ps` would show them from the host."""

from __future__ import annotations

import os

from knarr.engine.container_dir import ContainerDir
from knarr.engine.state import read_state
from knarr.errors import Conflict, HostError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_DEFAULT = ("-ef",)


def processes(directory: ContainerDir, words: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Column heads and rows. `words` are ps(1)'s; without any, and where there is no ps(1), our own columns."""
    if not read_state(directory).running:
        raise Conflict(f"container {directory.id[:12]} is not running")
    pids = container_pids(directory)
    if words:
        return _by_ps(words, pids)
    return _own(pids)


def container_pids(directory: ContainerDir) -> set[int]:
    """Pids on the host of everything in the container's cgroup, or else of everything below its process 1."""
    from knarr.host.cgroups import processes as in_cgroup

    pids: set[int] = set()
    for path in directory.run_record().procs:
        pids.update(in_cgroup(path))
    return pids or _descendants(read_state(directory).pid)


def _descendants(root: int) -> set[int]:
    found, queue = {root}, [root]
    while queue:
        pid = queue.pop()
        try:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                children = [int(word) for word in file.read().split()]
        except OSError:
            continue
        found.update(children)
        queue += children
    return found


def _own(pids: set[int]) -> tuple[list[str], list[list[str]]]:
    rows = []
    ticks = os.sysconf("SC_CLK_TCK")
    for pid in sorted(pids):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                name, fields = _stat(file.read())
            with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
                command = cmdline.read().rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
            uid = os.stat(f"/proc/{pid}").st_uid
        except OSError:
            continue  # it ended while we looked
        used = (int(fields[11]) + int(fields[12])) // ticks
        clock = f"{used // 3600:02d}:{used // 60 % 60:02d}:{used % 60:02d}"
        rows.append([str(uid), str(pid), fields[1], fields[0], clock, command or f"[{name}]"])
    return ["UID", "PID", "PPID", "STATE", "TIME", "CMD"], rows


def _stat(text: str) -> tuple[str, list[str]]:
    """A process may be called `a) b (c`: its name ends at the last parenthesis (proc_pid_stat(5))."""
    head, _, rest = text.rpartition(")")
    return head.partition("(")[2], rest.split()


def _by_ps(words: Sequence[str], pids: set[int]) -> tuple[list[str], list[list[str]]]:
    import subprocess

    try:
        done = subprocess.run(["ps", *words], capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise HostError(
            "ps is not installed on this machine", hint="`knarr top CONTAINER` without options"
        ) from None
    if done.returncode:
        raise UsageError(
            f"ps {' '.join(words)}: {done.stderr.strip().splitlines()[0] if done.stderr else 'failed'}"
        )
    lines = done.stdout.splitlines()
    heads = lines[0].split() if lines else []
    if "PID" not in heads:
        raise UsageError(
            f"ps {' '.join(words)}: shows no PID column, so the container's processes cannot be told"
        )
    column = heads.index("PID")
    split = [line.split(None, len(heads) - 1) for line in lines[1:]]
    return heads, [row for row in split if len(row) == len(heads) and int(row[column]) in pids]
