"""The processes of a container, as `ps` would show them from the host."""

from __future__ import annotations

from knarr.engine.container_dir import ContainerDir
from knarr.engine.state import read_state
from knarr.errors import Conflict
from knarr.host.process_table import by_ps, own_columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_DEFAULT = ("-ef",)


def processes(directory: ContainerDir, words: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Column heads and rows. `words` are ps(1)'s; without any, and where there is no ps(1), our own columns."""
    if not read_state(directory).running:
        raise Conflict(f"container {directory.id[:12]} is not running")
    pids = container_pids(directory)
    return by_ps(words, pids) if words else own_columns(pids)


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
