"""Processes in a table, as ps(1) would show them on this machine: of those that there are, the ones asked for."""

from __future__ import annotations

import os

from knarr.errors import HostError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def own_columns(pids: Collection[int]) -> tuple[list[str], list[list[str]]]:
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


def by_ps(words: Sequence[str], pids: Collection[int]) -> tuple[list[str], list[list[str]]]:
    """Column heads and rows, as ps(1) was asked for them."""
    head, *lines = ps_lines(words, pids)
    heads = head.split()
    return heads, [line.split(None, len(heads) - 1) for line in lines]


def ps_lines(words: Sequence[str], pids: Collection[int]) -> list[str]:
    """What ps(1) prints of these processes: its first line, and theirs. Raises `HostError` where there is none."""
    import subprocess

    try:
        done = subprocess.run(["ps", *words], capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise HostError(
            "ps is not installed on this machine", hint="without options of ps it is not needed"
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
    wanted = {str(pid) for pid in pids}
    return [lines[0], *(line for line in lines[1:] if wanted.intersection(line.split()[column : column + 1]))]
