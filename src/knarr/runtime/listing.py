"""`list`, `state` and `ps`: what is known of containers, in the forms that callers of runc know."""

from __future__ import annotations

from knarr.errors import Conflict, KnarrError
from knarr.host.cgroups import processes
from knarr.runtime.state_dir import StateDir, container_ids
from knarr.runtime.status import STOPPED, state_document, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from knarr.runtime.state_dir import Container


def describe(directory: StateDir) -> dict[str, Any]:
    """The state of runtime.md, and what runc adds to it, in its order. Raises `NotFound`, `DataError`."""
    container = directory.container()
    status = status_of(directory, container)
    if container is None:
        raise Conflict(f"container {directory.id!r} is {status}: there is no state yet")
    state = state_document(container, status)
    document = {
        "ociVersion": state["ociVersion"],
        "id": container.id,
        "pid": state.get("pid", 0),
        "status": status,
        "bundle": container.bundle,
        "rootfs": container.rootfs,
        "created": container.created,
    }
    if container.annotations:
        document["annotations"] = state["annotations"]
    if container.place.scope:
        document["systemd-scope"] = container.place.scope  # as crun's state has it
    document["owner"] = _user_name(container.owner_uid) if container.owner_uid else ""
    return document


def containers(root: str) -> Iterator[dict[str, Any]]:
    """All containers below a root; damaged ones with what is known of them."""
    for container_id in container_ids(root):
        try:
            document = describe(StateDir(root, container_id))
        except KnarrError:
            continue  # going, or coming
        yield {**document, "owner": document["owner"] or "root"}


def pids(directory: StateDir) -> list[int]:
    """Every process of a container. Raises `NotFound`, `Conflict`."""
    container = directory.container()
    if container is None or status_of(directory, container) == STOPPED:
        return []
    return sorted({container.pid, *_members(container)})


def _members(container: Container) -> list[int]:
    return processes(container.place.main) if container.place.main else []


def _user_name(uid: int) -> str:
    from knarr.host.facts import user_name

    return user_name(uid) or f"#{uid}"
