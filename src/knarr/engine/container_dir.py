"""One container on disk, and the lock that says whether it lives.

    ROOT/containers/ID/
      config.json      what was asked, and what the image said when it was created (ContainerConfig)
      lock             held (an open file description lock) by whoever starts, runs or removes the container
      once             there when `run --rm` made it: it is forgotten as soon as nobody holds the lock
      upper/ work/     its writable layer; rootfs/ is where the layers are mounted, in its own mount namespace
      hosts hostname resolv.conf
      exit             how it last ended, written by the monitor: `code N`, `signal N`, `oom 0|1`, `finished TIME`
      log              what it printed
    RUN/containers/ID/
      pid              written by the monitor: `pid`, `start`, `monitor`, `monitor_start`, `started TIME`
      run.json         what this run was given: addresses, ports, cgroup (RunRecord)
      config.json      the runtime specification it was started with, and cgroup.json where its cgroups are: for exec
      attach           the monitor's socket
      teardown         the tear-down plan; present from before anything is made until everything is unmade

The monitor inherits the lock from the command that started it. The kernel releases it when the last of them
ends, however it ends: so a RUN directory whose lock is free is a crash's leftover, and safe to mend.
"""

from __future__ import annotations

import errno
import fcntl
import os

from knarr.engine.options import ContainerOptions
from knarr.errors import Conflict, DataError, NotFound
from knarr.host import locks
from knarr.oci import json
from knarr.oci.document import decode, document, encode
from knarr.oci.image import RunConfig
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from knarr.host.paths import Paths


@document("snake")
class ContainerConfig(Record):
    """`config.json`. `layers` are directories below ROOT/layers, topmost first."""

    id: str
    name: str
    created: str
    image: str
    image_name: str
    layers: tuple[str, ...]
    options: ContainerOptions
    image_config: RunConfig = RunConfig()
    volumes: Mapping[str, str] = {}  # target → name of the anonymous volume made for it


@document("snake")
class RunRecord(Record):
    """`run.json`."""

    network: str = ""
    ip: str = ""
    gateway: str = ""
    ip6: str = ""
    mac: str = ""
    ports: tuple[str, ...] = ()  # "0.0.0.0:8080->80/tcp"
    freezer: str = ""
    procs: tuple[str, ...] = ()
    cgroup: str = ""


PATIENCE_S = 10.0  # how long one command waits for another that has the container's lock
_ID_LENGTH = 64
MAKING = "~"  # ends the name of a container directory that is being made or removed


class ContainerDir:
    """The paths of one container and the few atomic operations on them."""

    __slots__ = ("id", "root", "run")

    def __init__(self, paths: Paths, container_id: str) -> None:
        self.id = container_id
        self.root = f"{paths.root}/containers/{container_id}"
        self.run = f"{paths.run}/containers/{container_id}"

    def config(self) -> ContainerConfig:
        """What was asked. Raises `NotFound`, `DataError`."""
        data = self._read("config.json")
        try:
            return decode(ContainerConfig, json.loads(data))
        except DataError as e:
            raise DataError(
                f"container {self.id[:12]}: its config.json is damaged: {e.message}",
                hint=f"only `knarr rm -f {self.id[:12]}` is left",
            ) from e

    def write_config(self, config: ContainerConfig, *, sync: bool = True) -> None:
        """Beside, synced, renamed. Without `sync` it is the caller who makes it durable."""
        write_file(f"{self.root}/config.json", json.dumps(encode(config)).encode(), sync=sync)

    def run_record(self) -> RunRecord:
        """What this run was given; empty when it does not run."""
        try:
            with open(f"{self.run}/run.json", "rb") as file:
                return decode(RunRecord, json.loads(file.read()))
        except (FileNotFoundError, IsADirectoryError, DataError):
            return RunRecord()

    def exit_record(self) -> dict[str, str]:
        """The `exit` file's lines; empty when it never ended."""
        return read_lines(f"{self.root}/exit")

    def pid_record(self) -> dict[str, str]:
        """The `pid` file's lines; empty when it does not run."""
        return read_lines(f"{self.run}/pid")

    def acquire(self) -> int:
        """A descriptor that holds the container's lock. Raises `BlockingIOError` when somebody has it, `NotFound`."""
        path = f"{self.root}/lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound("container", self.id) from None
        try:
            locks.take(fd)
            # The one who held it may have removed the container meanwhile.
            if os.fstat(fd).st_nlink == 0:
                raise NotFound("container", self.id)
        except OSError as e:
            os.close(fd)
            if e.errno in (errno.EAGAIN, errno.EACCES):
                raise BlockingIOError(e.errno, "container is in use") from None
            raise
        except NotFound:
            os.close(fd)
            raise
        return fd

    def alive(self) -> bool:
        """Does anybody hold the lock. Asks without taking it, so that a question never disturbs a start."""
        return locks.held(f"{self.root}/lock")

    def _read(self, name: str) -> bytes:
        try:
            with open(f"{self.root}/{name}", "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise NotFound("container", self.id[:12]) from None
        except IsADirectoryError:
            return b""


def create_dir(paths: Paths, container_id: str, *, once: bool = False) -> tuple[ContainerDir, int]:
    """A new container's directories and its lock, held. The lock is there and held before anybody can see it."""
    directory = ContainerDir(paths, container_id)
    making = directory.root + MAKING
    os.mkdir(making, 0o700)
    # Locked before it has its name: a command that sweeps leftovers must never see a lock that nobody holds yet.
    fd = os.open(f"{making}/lock~", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    locks.take(fd)
    os.rename(f"{making}/lock~", f"{making}/lock")
    for name in ("upper", "rootfs"):
        os.mkdir(f"{making}/{name}", 0o755)
    if once:
        os.mknod(f"{making}/once", 0o600)
    os.rename(making, directory.root)
    return directory, fd


def is_id(name: str) -> bool:
    """Is that a container's directory; what else lies among them is not ours."""
    return len(name) == _ID_LENGTH and name.isalnum()


def container_ids(paths: Paths) -> list[str]:
    """Ids of all containers there are, unordered."""
    try:
        return [name for name in os.listdir(f"{paths.root}/containers") if is_id(name)]
    except FileNotFoundError:
        return []


def take_name(paths: Paths, name: str, container_id: str) -> None:
    """Make `name` this container's. Raises `Conflict` when another has it. A name whose container is gone is free."""
    link = f"{paths.root}/names/{name}"
    for _ in range(3):
        try:
            os.symlink(f"../containers/{container_id}", link)
            return
        except FileExistsError:
            owner = name_owner(paths, name)
            if owner and os.path.isdir(f"{paths.root}/containers/{owner}"):
                raise Conflict(
                    f"the container name {name!r} is already in use by container {owner[:12]}",
                    hint=f"remove it with `knarr rm {name}`, or choose another name",
                ) from None
            _drop_stale_name(paths, name)
    raise Conflict(f"the container name {name!r} is being taken by another command")


def _drop_stale_name(paths: Paths, name: str) -> None:
    """Unlink a name whose container is gone; one command at a time, or a name just taken would be dropped."""
    fd = os.open(f"{paths.root}/names", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        owner = name_owner(paths, name)
        if owner and not os.path.isdir(f"{paths.root}/containers/{owner}"):
            os.unlink(f"{paths.root}/names/{name}")
    finally:
        os.close(fd)


def names(paths: Paths) -> list[str]:
    """All names there are, taken or stale."""
    try:
        return os.listdir(f"{paths.root}/names")
    except FileNotFoundError:
        return []


def name_owner(paths: Paths, name: str) -> str:
    """The id a name stands for, "" when nobody has it."""
    try:
        return os.readlink(f"{paths.root}/names/{name}").rpartition("/")[2]
    except OSError:
        return ""


def find(paths: Paths, text: str) -> ContainerDir:
    """The container of an id, a name, or an id's beginning that only one has. Raises `NotFound`, `Conflict`."""
    hint = "list them with `knarr ps -a`"
    if not text or "/" in text or text in (".", "..") or "\0" in text:
        raise NotFound("container", text, hint=hint)
    if is_id(text) and os.path.isdir(f"{paths.root}/containers/{text}"):
        return ContainerDir(paths, text)
    owner = name_owner(paths, text.removeprefix("/"))
    if owner and os.path.isdir(f"{paths.root}/containers/{owner}"):
        return ContainerDir(paths, owner)
    matches = [i for i in container_ids(paths) if i.startswith(text)]
    if len(matches) > 1:
        raise Conflict(f"more than one container's id begins with {text}")
    if not matches:
        raise NotFound("container", text, hint=hint)
    return ContainerDir(paths, matches[0])


def read_lines(path: str) -> dict[str, str]:
    """`key value` lines of a small file; empty when it is absent, or not a file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return dict(line.rstrip("\n").split(" ", 1) for line in file if " " in line)
    except (FileNotFoundError, IsADirectoryError):
        return {}


def write_file(path: str, data: bytes, *, sync: bool = False, mode: int = 0o644) -> None:
    """Written beside and renamed, so that a reader never sees half of it."""
    beside = f"{path}.{os.getpid()}~"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if sync:
            os.fsync(fd)
    except OSError:
        os.unlink(beside)
        raise
    finally:
        os.close(fd)
    os.rename(beside, path)
