"""What `checkpoint` and `restore` tell criu alike: the flags, and what of the container belongs to the host.

Field numbers are those of criu's rpc.proto, message criu_opts. A mount of the host's has a name in the images:
`checkpoint` says which mount has which name, `restore` what stands behind a name now. The names are those that runc and
crun give, and so is `descriptors.json`, so that either can go on with the images of the other.
"""

from __future__ import annotations

import os

from knarr.errors import HostError, UsageError
from knarr.host.criu import KNOWN_TO_WORK, complaints
from knarr.oci import json
from knarr.plan.restore import is_bind
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from knarr.host.criu import Criu, Response
    from knarr.host.protobuf import Field
    from knarr.oci.spec import Mount, Spec
    from knarr.plan.cgroup import CgroupPlacement

DESCRIPTORS = "descriptors.json"
CONFIG_ANNOTATION = "org.criu.config"
_CONFIGS = ("/etc/criu/knarr.conf", "/etc/criu/crun.conf", "/etc/criu/runc.conf")
CGROUP_MODES = {"ignore": 0, "soft": 3, "full": 4, "strict": 5}
NETWORK_LOCKS = {"iptables": 1, "nftables": 2, "skip": 3}
_CLONE_NEWNET = 0x40000000
EMPTY_NAMESPACES = {"network": _CLONE_NEWNET}
# Kinds that may be the host's: criu leaves them out, and is given them at restore under these names.
EXTERNAL_NAMESPACES = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}
_MASKED = "/dev/null"
_LINKS = 40


class CriuFlags(Record):
    """Of both commands. Empty: criu's own default."""

    image_path: str
    work_path: str = ""
    tcp_established: bool = False
    ext_unix_sk: bool = False
    shell_job: bool = False
    file_locks: bool = False
    auto_dedup: bool = False
    lazy_pages: bool = False
    cgroups_mode: str = "soft"
    network_lock: str = ""
    empty_namespaces: tuple[str, ...] = ()

    @property
    def log_directory(self) -> str:
        return self.work_path or self.image_path


def fields(flags: CriuFlags, annotations: Mapping[str, str], log: str) -> Iterator[Field]:
    empty = 0
    for name in flags.empty_namespaces:
        empty |= EMPTY_NAMESPACES[name]
    yield 9, 4  # log_level
    yield 10, log
    yield 5, flags.tcp_established
    yield 4, flags.ext_unix_sk
    yield 7, flags.shell_job
    yield 8, flags.file_locks
    yield 16, flags.auto_dedup
    yield 48, flags.lazy_pages
    yield 50, True  # orphan_pts_master
    yield 12, True  # notify_scripts
    yield 24, True  # manage_cgroups, for old versions
    yield 34, CGROUP_MODES[flags.cgroups_mode]
    yield 38, empty
    if flags.network_lock:
        yield 64, NETWORK_LOCKS[flags.network_lock]
    if config := _config(annotations):
        yield 51, config


def _config(annotations: Mapping[str, str]) -> str:
    """A configuration file that wins over what we ask: the container's own, or the first there is. An annotation that
    is empty wants none."""
    if CONFIG_ANNOTATION in annotations:
        return annotations[CONFIG_ANNOTATION]
    return next((path for path in _CONFIGS if os.path.exists(path)), "")


def directory(path: str, *, make: bool) -> int:
    """A directory of images or logs. Raises `HostError`.

    Images are for root alone. But in a user namespace criu looks for some as another user, and has to see that they are
    not there.
    """
    try:
        if make:
            os.makedirs(path, 0o711, exist_ok=True)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise HostError(f"cannot open {path}: {os.strerror(e.errno or 0).lower()}") from e


def check_root(what: str, euid: int) -> None:
    if euid:
        raise HostError(f"{what} needs root: criu takes other processes apart")


def bind_mounts(spec: Spec, root: str) -> Iterator[tuple[str, Mount]]:
    """(place in the container, mount). `root` is where its root filesystem can be seen."""
    for i, mount in enumerate(spec.mounts):
        if not is_bind(mount):
            continue
        if "src-nofollow" in mount.options:
            raise UsageError(f"mounts[{i}]: criu cannot bring back a mount with src-nofollow")
        yield resolved(root, mount.destination), mount


def resolved(root: str, path: str) -> str:
    """A path in the container without links. Only a name: what becomes of it in a changed tree is criu's to refuse."""
    done: list[str] = []
    left = [word for word in reversed(path.split("/")) if word not in ("", ".")]
    links = 0
    while left:
        word = left.pop()
        if word == "..":
            done = done[:-1]
            continue
        try:
            text = os.readlink("/".join((root, *done, word)))
        except OSError:
            done.append(word)
            continue
        links += 1
        if links > _LINKS:
            raise HostError(f"{path}: too many links")
        if text.startswith("/"):
            done = []
        left += [inner for inner in reversed(text.split("/")) if inner not in ("", ".")]
    return "/" + "/".join(done)


def cgroup_mounts(spec: Spec, place: CgroupPlacement) -> Iterator[tuple[str, str]]:
    """(place in the container, directory of the host's) of the binds that a mount of type cgroup consists of on v1."""
    if not place.v1:
        return
    for mount in spec.mounts:
        if mount.type not in ("cgroup", "cgroup2"):
            continue
        target = mount.destination.rstrip("/")
        for v1 in place.v1:
            yield f"{target}/{_hierarchy(v1.directory)}", v1.directory
        if place.v2:
            yield f"{target}/unified", place.v2


def _hierarchy(directory: str) -> str:
    """The name of a v1 hierarchy's mount: `memory` of /sys/fs/cgroup/memory/a/b."""
    above = "/sys/fs/cgroup/"
    return directory.removeprefix(above).partition("/")[0]


def external_mounts(pairs: Iterable[tuple[str, str]]) -> Iterator[Field]:
    for name, value in pairs:
        yield 23, [(1, name), (2, value)]


def masked(spec: Spec, mounts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The files that are covered with /dev/null; a covered directory is a tmpfs, which criu writes down by itself."""
    for path in spec.linux.masked_paths:
        if mounts.get(path, "tmpfs") != "tmpfs":
            yield path, _MASKED


def device_mounts(spec: Spec) -> Iterator[str]:
    """Devices that may be the host's nodes, bound: where the container's user namespace may make none."""
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        yield f"/dev/{name}"
    for device in spec.linux.devices:
        yield device.path


def mounts_of(pid: int) -> dict[str, str]:
    """What is mounted in a process's root: place -> type."""
    found = {}
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            words = line.split()
            found[words[4]] = words[words.index("-") + 1]
    return found


def failure(what: str, container_id: str, program: Criu, answer: Response, log: str) -> HostError:
    """What went wrong, from criu's answer and its log."""
    told = complaints(log)
    reason = told or answer.reason or "it does not say why"
    hint = f"see {log}" if os.path.exists(log) else "is its log elsewhere, by a configuration in /etc/criu?"
    if program.version < KNOWN_TO_WORK and "vDSO" in told:
        release = os.uname().release.partition("-")[0]
        return HostError(
            f"{program.name} does not work on this kernel ({release}): {told.partition('; ')[0]}",
            hint="criu 4.0 or newer does: install it, or say where it is with --criu",
        )
    return HostError(f"{program.name} could not {what} container {container_id!r}: {reason}", hint=hint)


def write_descriptors(image_path: str, names: tuple[str, ...]) -> None:
    with open(f"{image_path}/{DESCRIPTORS}", "w") as file:
        file.write(json.dumps(list(names)))


def read_descriptors(image_path: str) -> list[str]:
    """Raises `HostError` for a directory that holds no container."""
    try:
        with open(f"{image_path}/{DESCRIPTORS}", "rb") as file:
            found = json.loads(file.read())
    except FileNotFoundError:
        raise HostError(f"{image_path} holds no checkpoint of a container") from None
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
