"""A connection to systemd's manager over D-Bus, and the few things asked of it. Imported only where systemd runs.

systemd's own socket (`private`, which is there without a D-Bus daemon) is no bus: nobody answers a `Hello` on it.
"""

from __future__ import annotations

import _socket
import os
import time

from knarr.errors import HostError
from knarr.host import dbus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MANAGER = "org.freedesktop.systemd1"
MANAGER_PATH = "/org/freedesktop/systemd1"
_BUS = "org.freedesktop.DBus"


class BusError(Exception):
    """An error reply. `name` is D-Bus's: `org.freedesktop.systemd1.UnitExists`."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


def sockets(*, user: bool, env: Mapping[str, str], uid: int) -> list[tuple[str, bool]]:
    """Where a manager may be reached, best first: (path, is it a bus). Pure."""
    if not user:
        return [("/run/dbus/system_bus_socket", True), ("/run/systemd/private", False)]
    runtime = env.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    found = [
        (address.removeprefix("unix:path=").partition(",")[0], True)
        for address in env.get("DBUS_SESSION_BUS_ADDRESS", "").split(";")
        if address.startswith("unix:path=")
    ]
    return list(dict.fromkeys([*found, (f"{runtime}/bus", True), (f"{runtime}/systemd/private", False)]))


def connect(*, user: bool) -> Bus:
    """The manager of the system, or of this user. Raises `HostError` when there is none."""
    reasons = []
    for path, is_bus in sockets(user=user, env=os.environ, uid=os.getuid()):
        try:
            return Bus(path, is_bus=is_bus)
        except (OSError, BusError, ValueError) as e:
            reasons.append(f"{path}: {str(e).lower()}")
    who = "user's " if user else ""
    hint = "log in through pam_systemd, or `sudo loginctl enable-linger $USER`" if user else ""
    raise HostError(f"cannot reach the {who}systemd: {'; '.join(reasons)}", hint=hint)


class Bus:
    """One connection; a context manager."""

    def __init__(self, path: str, *, is_bus: bool, timeout_s: float = 25.0) -> None:
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self._socket.settimeout(timeout_s)
        self._received = bytearray()
        self._serial = 0
        self._jobs: dict[str, str] = {}  # job → result, as they ended
        try:
            self._socket.connect(path)
            self._authenticate()
            if is_bus:
                self.call(_BUS, "/org/freedesktop/DBus", _BUS, "Hello")
                rule = (
                    f"type='signal',interface='{MANAGER}.Manager',member='JobRemoved',path='{MANAGER_PATH}'"
                )
                self.call(_BUS, "/org/freedesktop/DBus", _BUS, "AddMatch", "s", (rule,))
                self.manager("Subscribe")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def manager(self, member: str, signature: str = "", body: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """Calls a method of org.freedesktop.systemd1.Manager. Raises `BusError`."""
        return self.call(MANAGER, MANAGER_PATH, f"{MANAGER}.Manager", member, signature, body)

    def call(
        self,
        name: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: tuple[Any, ...] = (),
    ) -> tuple[Any, ...]:
        """The body of the reply. Raises `BusError`, and `OSError` for a connection that broke or fell silent."""
        self._serial += 1
        self._socket.sendall(dbus.method_call(self._serial, name, path, interface, member, signature, body))
        while True:
            reply = self._receive()
            if reply.fields.get(dbus.REPLY_SERIAL) != self._serial:
                continue
            if reply.kind == dbus.ERROR:
                text = str(reply.body[0]) if reply.body else ""
                raise BusError(reply.fields.get(dbus.ERROR_NAME, ""), text)
            return reply.body

    def job_result(self, job: str, timeout_s: float) -> str:
        """How a job ended: `done`, `failed`, `timeout`, …; "" when it has not within the time."""
        deadline = time.monotonic() + timeout_s
        while job not in self._jobs:
            left = deadline - time.monotonic()
            if left <= 0:
                return ""
            self._socket.settimeout(left)
            try:
                self._receive()
            except TimeoutError:
                return ""
        return self._jobs.pop(job)

    def _authenticate(self) -> None:
        """The kernel tells the other side who we are; it wants to hear it from us too (D-Bus, EXTERNAL)."""
        if _is_ourselves_outside():
            uid = str(os.geteuid()).encode().hex().encode()
            self._socket.sendall(b"\0AUTH EXTERNAL " + uid + b"\r\n")
            answer = self._line()
        else:
            # Who we are outside of our user namespace the kernel knows, and we say nothing instead.
            self._socket.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\n")
            answer = self._line()
            if answer == b"DATA":
                answer = self._line()
        if not answer.startswith(b"OK"):
            raise BusError("", f"it does not let us in: {answer.decode('ascii', 'replace')}")
        self._socket.sendall(b"BEGIN\r\n")

    def _line(self) -> bytes:
        while b"\r\n" not in self._received:
            self._fill()
        line, _, rest = bytes(self._received).partition(b"\r\n")
        self._received = bytearray(rest)
        return line

    def _receive(self) -> dbus.Message:
        """The next message. A job's end is noted: it may come before the reply that names the job."""
        while not (size := dbus.message_size(self._received)) or len(self._received) < size:
            self._fill()
        message = dbus.parse(bytes(self._received[:size]))
        del self._received[:size]
        if message.kind == dbus.SIGNAL and message.fields.get(dbus.MEMBER) == "JobRemoved":
            if len(message.body) == 4:
                _, job, _, result = message.body
                self._jobs[job] = result
        return message

    def _fill(self) -> None:
        data = self._socket.recv(16384)
        if not data:
            raise ConnectionResetError("the connection was closed")
        self._received += data


def _is_ourselves_outside() -> bool:
    """Is our user id the one that others see: not so in a user namespace that maps it."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            maps = [[int(word) for word in line.split()] for line in file]
    except (OSError, ValueError):
        return True
    uid = os.geteuid()
    return any(first <= uid < first + count and first == outside for first, outside, count in maps)
