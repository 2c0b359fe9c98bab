"""Containers of `knarr-runtime` on disk: a directory each, below the root that the caller names.

    ROOT/                     0711; $XDG_RUNTIME_DIR/knarr-runtime or /run/knarr-runtime
        ID/                   0700, its creation takes the id
            lock              held (OFD lock) by the command that changes the container
            status            what was made, and where (`Container`); absent while it is being created. Named as
                              crun's: there are callers that wait for the file
            config.json       the specification it was created from: what `exec` and the hooks go by
            plan              the steps in wire form, to name the one that fails at `start`
            ahead             what `start` and `delete` will have to do (`knarr.runtime.ahead`)
            exec.fifo         the container's process waits at it, gone once it was started
            waits             held (OFD lock) by the container's process until it executes its program
            notify/           bound into the container when a service manager wants to hear that it is ready

Everything is written beside and renamed. What a container is doing is asked of the kernel (`knarr.runtime.status`).
"""

from __future__ import annotations

import errno
import os

from knarr.errors import Conflict, DataError, HostError, NotFound, UsageError
from knarr.host import locks
from knarr.oci import json
from knarr.oci.document import decode, encode
from knarr.oci.spec import Spec
from knarr.plan.cgroup import CgroupPlacement
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_LONGEST_ID = 1024
_ELSEWHERE = "choose another place with `knarr-runtime --root DIR COMMAND`"


class Container(Record):
    """What `create` made. `pid_start` is field 22 of /proc/PID/stat: a recycled pid is not this container."""

    id: str
    bundle: str
    rootfs: str
    created: str  # RFC 3339
    oci_version: str
    owner_uid: int = 0
    pid: int = 0
    pid_start: int = 0
    place: CgroupPlacement = CgroupPlacement()
    annotations: Mapping[str, str] = {}
    descriptors: tuple[
        str, ...
    ] = ()  # what the standard ones led to: `checkpoint` leaves pipes of the host's out
    users_systemd: bool = False  # the place is a scope of the user's own systemd
    host_mount: int = (
        0  # without a mount namespace: the id of the mount that the root filesystem was in before ours
    )
    rdt_group: str = ""  # its class of resctrl, and the directories there that go with the container
    rdt_made: tuple[str, ...] = ()


def default_root(environ: Mapping[str, str], euid: int) -> str:
    """Where the containers are when nobody says. A directory that sudo(8) left in the environment is another user's,
    who could put links where root then writes and removes."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if euid == 0 and not (runtime and _is_roots(runtime)):
        return "/run/knarr-runtime"
    return f"{runtime or f'/run/user/{euid}'}/knarr-runtime"


def _is_roots(path: str) -> bool:
    try:
        return os.stat(path).st_uid == 0
    except OSError:
        return False


def check_id(container_id: str) -> str:
    """An id is one file name of letters, digits, `_+-.`. Raises `UsageError`."""
    if not container_id:
        raise UsageError("container id cannot be empty")
    if container_id[0] == "." or len(container_id) > _LONGEST_ID or not _ALLOWED.issuperset(container_id):
        raise UsageError(
            f"invalid character in container ID {container_id[:80]!r}",
            hint="letters, digits and _ + - . are allowed, and it does not begin with a full stop",
        )
    return container_id


class StateDir:
    """The paths of one container and the few atomic operations on them."""

    __slots__ = ("id", "path", "root")

    def __init__(self, root: str, container_id: str) -> None:
        self.root = root
        self.id = check_id(container_id)
        self.path = f"{root}/{container_id}"

    @property
    def fifo(self) -> str:
        return f"{self.path}/exec.fifo"

    @property
    def notify(self) -> str:
        return f"{self.path}/notify"

    def claim(self) -> int:
        """Make the container's directory: its id is taken, and its lock held by the returned descriptor.

        Raises `Conflict`, `HostError`.
        """
        try:
            os.makedirs(self.root, 0o711, exist_ok=True)
        except FileExistsError:
            raise HostError(
                f"cannot keep containers in {self.root}: not a directory", hint=_ELSEWHERE
            ) from None
        except OSError as e:
            raise HostError(
                f"cannot make {self.root}: {os.strerror(e.errno or 0).lower()}", hint=_ELSEWHERE
            ) from e
        try:
            os.mkdir(self.path, 0o700)
        except FileExistsError:
            raise Conflict(f"container {self.id!r} already exists") from None
        except OSError as e:
            raise HostError(f"cannot make {self.path}: {os.strerror(e.errno or 0).lower()}") from e
        return self.lock()

    def lock(self) -> int:
        """Hold the container's lock, once nobody else does. Raises `NotFound`."""
        try:
            fd = os.open(f"{self.path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise no_such(self.id) from None
        locks.wait(fd)
        if os.fstat(fd).st_nlink == 0:  # whoever had it has removed the container
            os.close(fd)
            raise no_such(self.id)
        return fd

    def busy(self) -> bool:
        """Does a command hold the lock. Asks without taking it."""
        return locks.held(f"{self.path}/lock")

    def exists(self) -> bool:
        return os.path.isdir(self.path)

    def container(self) -> Container | None:
        """What was made; `None` while it is being made, or when that was cut short. Raises `NotFound`, `DataError`."""
        try:
            with open(f"{self.path}/status", "rb") as file:
                return decode(Container, json.loads(file.read()))
        except FileNotFoundError:
            if self.exists():
                return None
            raise no_such(self.id) from None
        except DataError as e:
            raise DataError(
                f"container {self.id!r}: its state is damaged: {e.message}",
                hint=f"only `knarr-runtime delete --force {self.id}` is left",
            ) from e

    def config(self) -> bytes:
        """The configuration it was created from, as it was read."""
        try:
            with open(f"{self.path}/config.json", "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise no_such(self.id) from None

    def spec(self) -> Spec:
        """The same as a record."""
        return decode(Spec, json.loads(self.config()))

    def take(self, name: str) -> bytes:
        """A file's content, once; nothing when there is none."""
        path = f"{self.path}/{name}"
        try:
            with open(path, "rb") as file:
                content = file.read()
            os.unlink(path)
        except FileNotFoundError:
            return b""
        return content

    def plan(self) -> bytes:
        """The steps it was created with, in wire form."""
        with open(f"{self.path}/plan", "rb") as file:
            return file.read()

    def write_container(self, container: Container) -> None:
        self.write("status", json.dumps(encode(container)).encode())

    def write(self, name: str, data: bytes) -> None:
        """Beside, renamed. Not synced: after a power cut there is no container that it could speak of."""
        beside = f"{self.path}/{name}~"
        try:
            with open(beside, "wb") as file:
                file.write(data)
            os.rename(beside, f"{self.path}/{name}")
        except OSError as e:
            raise HostError(f"cannot write {self.path}/{name}: {os.strerror(e.errno or 0).lower()}") from e

    def make_fifo(self) -> int:
        """The FIFO that the container's process waits at, as an O_PATH descriptor.

        Everybody may write: the process may be any user by then, and only who is handed the descriptor gets there.
        """
        os.mkfifo(self.fifo, 0o622)
        os.chmod(self.fifo, 0o622)  # whatever the file mode mask is
        return os.open(self.fifo, os.O_PATH | os.O_CLOEXEC)

    def hold_start(self) -> int:
        """A lock for the container's process: it has it until it is another program, or has ended."""
        fd = os.open(f"{self.path}/waits", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        locks.take(fd)
        return fd

    def waits(self) -> bool:
        """Has the container been created and not started. That the FIFO is there does not tell: who opened it may
        have been killed before it was removed."""
        return os.path.exists(self.fifo) and locks.held(f"{self.path}/waits")

    def started(self) -> None:
        try:
            os.unlink(self.fifo)
        except FileNotFoundError:
            return

    def remove(self) -> None:
        """The id is free again. The lock goes last but for the directory: who waits for it sees that it is gone."""
        for name in _names(self.path):
            if name == "notify":
                for inner in _names(self.notify):
                    os.unlink(f"{self.notify}/{inner}")
                os.rmdir(self.notify)
            elif name != "lock":
                os.unlink(f"{self.path}/{name}")
        for remove, path in ((os.unlink, f"{self.path}/lock"), (os.rmdir, self.path)):
            try:
                remove(path)
            except FileNotFoundError:
                continue
            except OSError as e:
                if e.errno != errno.ENOTEMPTY:
                    raise


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def container_ids(root: str) -> list[str]:
    """Ids of all containers below a root, in order."""
    return sorted(n for n in _names(root) if _ALLOWED.issuperset(n) and os.path.isdir(f"{root}/{n}"))


def no_such(container_id: str) -> NotFound:
    error = NotFound("container", container_id)
    # The words that engines look for in a runtime's answer.
    error.message = f"container {container_id!r} does not exist"
    return error
