"""The state of a container as those get it who act on it while it is made (runtime.md, State).

The container's pid is only known when its plan is executed, so a document is parts, with the pid between them.
"""

from __future__ import annotations

from knarr.oci import json
from knarr.oci.spec import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.oci.spec import Spec

CREATING, CREATED, RUNNING = "creating", "created", "running"


def state_parts(spec: Spec, container_id: str, bundle: str, status: str) -> tuple[str, str]:
    """JSON before and after the pid."""
    before = json.dumps({"ociVersion": OCI_VERSION, "id": container_id, "status": status})
    after = json.dumps({"bundle": bundle, "annotations": dict(spec.annotations)})
    return f'{before[:-1]},"pid":', f",{after[1:]}"


def process_state_parts(
    spec: Spec, container_id: str, bundle: str, status: str, *, pid: int = 0
) -> tuple[str, ...]:
    """The container process state for a seccomp agent (config-linux.md, The Container Process State). The pid comes in
    twice, as that of the process and as that of the container: `pid` is the container's when that is another."""
    before, after = state_parts(spec, container_id, bundle, status)
    head = json.dumps({"ociVersion": OCI_VERSION, "fds": ["seccompFd"]})
    metadata = spec.linux.seccomp.listener_metadata if spec.linux.seccomp else ""
    middle = f",{json.dumps({'metadata': metadata})[1:-1]}" if metadata else ""
    first, second = f'{head[:-1]},"pid":', f'{middle},"state":{before}'
    return (first, f"{second}{pid}{after}}}") if pid else (first, second, f"{after}}}")
