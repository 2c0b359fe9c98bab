"""`checkpoint`: a running container is written to disk by criu, and is gone then, or goes on."""

from __future__ import annotations

import os

from knarr.errors import Conflict, HostError, UsageError
from knarr.host import criu
from knarr.record import Record
from knarr.runtime import criu_options as options
from knarr.runtime.criu_options import CriuFlags
from knarr.runtime.delete import destroy
from knarr.runtime.status import PAUSED, RUNNING, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.host.criu import Criu, Notice
    from knarr.host.protobuf import Field
    from knarr.oci.spec import Spec
    from knarr.runtime.state_dir import Container, StateDir

_LOG = "dump.log"
_MEM_TRACK, _LAZY_PAGES = 1, 2  # criu_features


class CheckpointRequest(Record):
    flags: CriuFlags
    criu: str = ""
    leave_running: bool = False
    pre_dump: bool = False
    parent_path: str = ""
    tcp_skip_in_flight: bool = False
    link_remap: bool = False
    page_server: str = ""  # HOST:PORT
    status_fd: int = -1


def checkpoint(directory: StateDir, request: CheckpointRequest, warn: Callable[[str], None]) -> None:
    """Raises `Conflict` for a container that does not run, `HostError` for what criu cannot do."""
    options.check_root("checkpoint", os.geteuid())
    program = criu.find(request.criu)
    lock = directory.lock()
    try:
        container = directory.container()
        status = status_of(directory, container)
        if container is None or status not in (RUNNING, PAUSED):
            raise Conflict(f"cannot checkpoint container {directory.id!r}: it is {status}")
        spec = directory.spec()
        _dump(program, container, spec, request)
        if not (request.leave_running or request.pre_dump):
            destroy(directory, container, spec.hooks, warn)
    finally:
        os.close(lock)


def _dump(program: Criu, container: Container, spec: Spec, request: CheckpointRequest) -> None:
    flags = request.flags
    images = options.directory(flags.image_path, make=True)
    work = options.directory(flags.work_path, make=True) if flags.work_path else -1
    try:
        asked = [(1, images), (2, container.pid), *options.fields(flags, container.annotations, _LOG)]
        if work >= 0:
            asked.append((17, work))
        asked += _pages(program, request)
        if not request.pre_dump:
            asked += _host_parts(container, spec, request)
            options.write_descriptors(flags.image_path, container.descriptors)
        kind = criu.PRE_DUMP if request.pre_dump else criu.DUMP
        answer = criu.call(program, kind, [(2, asked)], _Listener(request.status_fd))
        if not answer.succeeded:
            raise options.failure(
                "write to disk", container.id, program, answer, f"{flags.log_directory}/{_LOG}"
            )
    finally:
        os.close(images)
        if work >= 0:
            os.close(work)


def _host_parts(container: Container, spec: Spec, request: CheckpointRequest) -> list[Field]:
    mounts = options.mounts_of(container.pid)
    found = [(at, at) for at, _ in options.bind_mounts(spec, f"/proc/{container.pid}/root")]
    found += [(at, at) for at, _ in options.cgroup_mounts(spec, container.place) if at in mounts]
    found += list(options.masked(spec, mounts))
    found += [(path, path) for path in options.device_mounts(spec) if path in mounts]
    asked: list[Field] = [
        (3, request.leave_running),
        (13, container.rootfs),
        (46, request.tcp_skip_in_flight),
        (18, request.link_remap),
        *options.external_mounts(found),
    ]
    if freezer := container.place.freezer_file:
        asked.append((44, freezer.rpartition("/")[0]))
    for namespace in spec.linux.namespaces:
        if namespace.path and namespace.type in options.EXTERNAL_NAMESPACES:
            kind, name = options.EXTERNAL_NAMESPACES[namespace.type]
            number = os.stat(f"/proc/{container.pid}/ns/{kind}").st_ino
            asked.append((37, f"{kind}[{number}]:{name}"))
    return asked


def _pages(program: Criu, request: CheckpointRequest) -> list[Field]:
    """Where the memory goes, and what of it is elsewhere already."""
    asked: list[Field] = []
    if request.parent_path:
        if request.parent_path.startswith("/"):
            raise UsageError("--parent-path must be relative to --image-path")
        if not os.path.isdir(f"{request.flags.image_path}/{request.parent_path}"):
            raise UsageError(f"--parent-path: {request.parent_path} is no directory, seen from --image-path")
        asked.append((14, request.parent_path))
    if request.parent_path or request.pre_dump:
        _check_feature(program, _MEM_TRACK, "tracking of changed memory (--pre-dump, --parent-path)")
        asked.append((15, True))
    if request.flags.lazy_pages:
        _check_feature(program, _LAZY_PAGES, "lazy migration (--lazy-pages)")
    if request.page_server:
        host, _, port = request.page_server.rpartition(":")
        if not host or not port.isdecimal():
            raise UsageError(f"--page-server: {request.page_server!r} is not ADDRESS:PORT")
        asked.append((11, [(1, host), (2, int(port))]))
    return asked


def _check_feature(program: Criu, feature: int, what: str) -> None:
    answer = criu.call(program, criu.FEATURE_CHECK, [(5, [(feature, True)])])
    if not answer.succeeded or not answer.has(feature):
        raise HostError(
            f"{program.name} on this kernel has no {what}", hint=f"see `{program.program} check --all`"
        )


class _Listener:
    """Tells whoever waits at `--status-fd` that the server of pages is there."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __call__(self, notice: Notice) -> None:
        if notice.script == "status-ready" and self.fd >= 0:
            os.write(self.fd, b"\0")
            os.close(self.fd)
            self.fd = -1
