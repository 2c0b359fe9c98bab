"""What a container is doing (runtime.md, State): read from the kernel, never believed from a file alone."""

from __future__ import annotations

from knarr.host.cgroups import frozen
from knarr.host.native import start_time
from knarr.oci.spec import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from knarr.runtime.state_dir import Container, StateDir

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
STOPPED = "stopped"


def status_of(directory: StateDir, container: Container | None) -> str:
    """One of the five states. A container whose creation was cut short is stopped."""
    if container is None or not container.pid:
        return CREATING if directory.busy() else STOPPED
    if not alive(container.pid, container.pid_start):
        return STOPPED
    if is_frozen(container):  # a container that waits for its start can be frozen as well
        return PAUSED
    return CREATED if directory.waits() else RUNNING


def alive(pid: int, start: int) -> bool:
    """Is it the process that began then, and not a zombie that nobody has waited for yet."""
    if pid <= 0 or not start or start_time(pid) != start:
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def is_frozen(container: Container) -> bool:
    freezer = container.place.freezer_file
    return bool(freezer) and frozen(freezer.rpartition("/")[0])


def state_document(container: Container, status: str) -> dict[str, Any]:
    """The state as hooks and callers get it (runtime.md, State). `pid` only while there is a process."""
    document: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "id": container.id,
        "status": status,
        "bundle": container.bundle,
    }
    if status != STOPPED:
        document["pid"] = container.pid
    if container.annotations:
        document["annotations"] = dict(container.annotations)
    return document
