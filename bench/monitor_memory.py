"""What an idle detached container costs beside its workload: PSS of the process that watches it, in kB.

A watcher is every new process that is not the workload: knarr's monitor, conmon, containerd's shim.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from engines import Engine, engines
from measure import Limit, once, report

CONTAINERS = 10
WORKLOAD = ("sleep", "98765")
NAMES = [f"bench-memory-{i}" for i in range(CONTAINERS)]
WATCHERS = {"knarr": "knarr", "podman": "conmon", "docker": "containerd-shim", "ctr": "containerd-shim"}


def processes() -> set[int]:
    return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}


def pss(pid: int) -> int:
    """Proportional set size in kB, 0 when the process is gone."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)


def watches(pid: int, name: str) -> bool:
    try:
        return (
            Path(f"/proc/{pid}/cmdline")
            .read_bytes()
            .split(b"\0")[0]
            .rpartition(b"/")[2]
            .decode()
            .startswith(name)
        )
    except OSError:
        return False


def per_container(engine: Engine) -> list[float]:
    engine.remove(NAMES)
    before = processes()
    try:
        for name in NAMES:
            once(engine.start(name, *WORKLOAD))
        time.sleep(2)  # what starts a container may still be leaving
        new = [pid for pid in processes() - before if watches(pid, WATCHERS[engine.name])]
        return [float(pss(pid)) for pid in new]
    finally:
        engine.remove(NAMES)


def main() -> bool:
    samples = {e.name: per_container(e) for e in engines("knarr", "podman", "docker", "ctr")}
    return report("watcher of an idle container, PSS each", samples, [Limit(100)], "kB")


if __name__ == "__main__":
    sys.exit(not main())
