"""CRIU, which writes a tree of processes to disk and brings it back (https://criu.org): the program, its version, its
remote calls (https://criu.org/RPC).

`criu swrk FD` serves one request on a socket of the caller's. Only so, and not on its command line, does it ask back on
the way: for hooks, and to hand over a terminal's master.
"""

from __future__ import annotations

import _socket
import array
import os

from knarr.errors import HostError
from knarr.host import native
from knarr.host.protobuf import decode, encode
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.host.protobuf import Field

# criu_req_type of rpc.proto.
DUMP, RESTORE, PRE_DUMP, FEATURE_CHECK, _NOTIFY = 1, 2, 4, 9, 6
OLDEST = (3, 11)  # external network namespaces, configuration files
# The first that knows the vDSO of Linux 6.x: older ones end with "Unexpected rt vDSO area bounds".
KNOWN_TO_WORK = (4, 0)
_LARGEST = 1 << 16


class Criu(Record):
    program: str
    version: tuple[int, int]

    @property
    def name(self) -> str:
        return f"criu {'.'.join(map(str, self.version))}"


class Response(Record):
    """`fields` of criu_resp; none when criu ended without an answer."""

    fields: dict[int, list[int | bytes]]

    @property
    def succeeded(self) -> bool:
        return bool(self.fields.get(2, [0])[0])

    @property
    def pid(self) -> int:
        """Of the process that was restored."""
        inner = self.fields.get(4, [b""])[0]
        value = decode(inner).get(1, [0])[0] if isinstance(inner, bytes) else 0
        return value if isinstance(value, int) else 0

    @property
    def reason(self) -> str:
        """What criu says went wrong, where it says that."""
        text = self.fields.get(9, [b""])[0]
        if isinstance(text, bytes) and text:
            return _complaint(text.decode(errors="replace").replace("\\n", ""))
        number = self.fields.get(7, [0])[0]
        return os.strerror(number).lower() if isinstance(number, int) and number else ""

    def has(self, *features: int) -> bool:
        """Of a FEATURE_CHECK."""
        inner = self.fields.get(8, [b""])[0]
        found = decode(inner) if isinstance(inner, bytes) else {}
        return all(bool(found.get(feature, [0])[0]) for feature in features)


class Notice(Record):
    """What criu asks back: `script` is the name of the moment, `fd` a terminal's master or -1."""

    script: str
    pid: int
    fd: int = -1


def find(program: str = "") -> Criu:
    """The program and its version. Raises `HostError` when there is none, or one that is too old."""
    path = _path(program or "criu")
    version = _version(path)
    criu = Criu(path, version)
    if version < OLDEST:
        raise HostError(f"{criu.name} is too old to checkpoint containers", hint="install criu 4.0 or newer")
    return criu


def _path(program: str) -> str:
    if "/" in program:
        if os.access(program, os.X_OK):
            return os.path.abspath(program)
        raise HostError(f"--criu: {program} is not a program")
    for directory in [*os.environ.get("PATH", "").split(":"), "/usr/local/sbin", "/usr/sbin", "/sbin"]:
        if directory and os.access(f"{directory}/{program}", os.X_OK):
            return f"{directory}/{program}"
    raise HostError(
        "criu is not installed: it writes containers to disk and brings them back",
        hint="install criu (4.0 or newer), or say where it is with --criu",
    )


def _version(path: str) -> tuple[int, int]:
    import subprocess

    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise HostError(f"cannot run {path}: {e}") from e
    text = done.stdout.decode(errors="replace")
    words = text.partition("Version:")[2].split()
    numbers = words[0].split("-")[0].split(".") if words else []
    if len(numbers) < 2 or not all(n.isdecimal() for n in numbers[:2]):
        said = " ".join((text or done.stderr.decode(errors="replace")).split())[:200]
        raise HostError(f"{path} --version does not say which it is: {said}")
    return int(numbers[0]), int(numbers[1])


class Channel:
    """The socket that criu serves. It knows us by it: descriptors that a request names are this process's."""

    def __init__(self) -> None:
        self._ours, theirs = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        )
        self.theirs = theirs.detach()

    def close(self) -> None:
        self._ours.close()
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    def request(
        self, kind: int, fields: list[Field], on_notice: Callable[[Notice], None] = lambda notice: None
    ) -> Response:
        """Call it, and answer what it asks back. What `on_notice` raises ends the call, and criu with it."""
        os.close(self.theirs)
        self.theirs = -1
        try:
            return self._converse(encode([(1, kind), *fields]), on_notice)
        except (BrokenPipeError, ConnectionResetError):
            return Response({})

    def _converse(self, request: bytes, on_notice: Callable[[Notice], None]) -> Response:
        self._ours.send(request)
        while True:
            data, ancillary, _, _ = self._ours.recvmsg(_LARGEST, _socket.CMSG_SPACE(4 * 4))
            if not data:
                return Response({})
            response = Response(decode(data))
            if response.fields.get(1) != [_NOTIFY]:
                return response
            notice = _notice(response, _descriptors(ancillary))
            try:
                on_notice(notice)
            finally:
                if notice.fd >= 0:
                    os.close(notice.fd)
            self._ours.send(encode([(1, _NOTIFY), (3, True)]))


def _notice(response: Response, fds: list[int]) -> Notice:
    inner = response.fields.get(5, [b""])[0]
    fields = decode(inner) if isinstance(inner, bytes) else {}
    script, pid = fields.get(1, [b""])[0], fields.get(2, [0])[0]
    for fd in fds[1:]:
        os.close(fd)
    return Notice(
        script.decode(errors="replace") if isinstance(script, bytes) else "",
        pid if isinstance(pid, int) else 0,
        fds[0] if fds else -1,
    )


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    for fd in fds:
        os.set_inheritable(fd, False)
    return list(fds)


def call(
    criu: Criu, kind: int, fields: list[Field], on_notice: Callable[[Notice], None] = lambda notice: None
) -> Response:
    """One request to a criu of its own."""
    channel = Channel()
    pid = 0
    try:
        pid = native.spawn([criu.program, "swrk", "3"], {3: channel.theirs})
        return channel.request(kind, fields, on_notice)
    finally:
        channel.close()
        if pid:
            native.wait_for(pid)


def complaints(log: str) -> str:
    """The last errors in a log of criu's, in one line; "" when it tells none."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = [line for line in file if "Error (" in line]
    except OSError:
        return ""
    return "; ".join(map(_complaint, lines[-3:]))


def _complaint(line: str) -> str:
    """The reason in `(00.1) Error (criu/files-reg.c:1234): the reason`."""
    told = line.partition("Error (")[2].partition("): ")[2]
    return told.strip() or line.strip()
